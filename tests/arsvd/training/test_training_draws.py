"""What is drawn for members, by generators and by counters: order, flips, dropout."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from arsvd.training.counters import CounterDraws, mixed
from arsvd.training.draws import Draws, GeneratorDraws

SAMPLES = 50
KINDS = ("generators", "counters")


def make(
    kind: str,
    seeds: Sequence[int],
    flip: bool = False,
    rates: Sequence[float] = (),
    widths: Sequence[Sequence[int]] = (),
    samples: int = SAMPLES,
) -> Draws:
    rates = rates or [0.0] * len(seeds)
    if kind == "generators":
        return GeneratorDraws(seeds, samples, flip, rates, widths, torch.float64)
    return CounterDraws(seeds, samples, flip, rates, widths, torch.float64, torch.device("cpu"))


def masks_at(draws: Draws, step: int, batch: int) -> list[Tensor]:
    draws.at(step)
    return draws.masks(batch) or []


@pytest.mark.parametrize("kind", KINDS)
class TestEpochs:
    def test_each_is_a_new_permutation_of_each_member(self, kind: str) -> None:
        draws = make(kind, [3, 4])
        first, second = (draws.epoch(number)[0] for number in range(2))
        for order in (first, second):
            assert torch.equal(order.sort(dim=1).values, torch.arange(SAMPLES).expand(2, -1))
        assert not torch.equal(first, second)
        assert not torch.equal(first[0], first[1])

    def test_orders_are_uniform(self, kind: str) -> None:
        """Where image 0 goes, and which comes first, over many seeds: chi squared with 9 degrees."""
        order, _ = make(kind, range(2000), samples=10).epoch(0)
        for found in (order[:, 0], (order == 0).int().argmax(1), order[:, 9]):
            counts = torch.bincount(found, minlength=10).double()
            assert float(((counts - 200) ** 2 / 200).sum()) < 33.7  # exceeded once in 10,000

    def test_half_of_the_images_are_mirrored(self, kind: str) -> None:
        draws = make(kind, [0, 1], flip=True)
        drawn = [draws.epoch(number)[1] for number in range(40)]
        flips = torch.cat([flips for flips in drawn if flips is not None], dim=1)
        assert flips.shape == (2, 2000)
        assert flips.dtype == torch.bool
        shares = flips.double().mean(1)
        assert ((shares - 0.5).abs() < 4 * 0.5 / 2000**0.5).all()
        assert not torch.equal(flips[0], flips[1])

    def test_without_flips_there_are_none(self, kind: str) -> None:
        assert make(kind, [0]).epoch(0)[1] is None

    def test_a_member_sees_the_same_in_any_pack(self, kind: str) -> None:
        alone, together = make(kind, [7], flip=True), make(kind, [1, 7], flip=True)
        for number in range(2):
            for mine, both in zip(alone.epoch(number), together.epoch(number), strict=True):
                assert mine is not None
                assert both is not None
                assert torch.equal(mine[0], both[1])


@pytest.mark.parametrize("kind", KINDS)
class TestDropout:
    def test_masks_scale_what_they_keep(self, kind: str) -> None:
        rates, widths = [0.0, 0.25, 0.8], [[6, 4, 8], [3, 5, 5]]
        masks = masks_at(make(kind, [0, 1, 2], rates=rates, widths=widths), 0, 4000)
        assert [tuple(mask.shape) for mask in masks] == [(3, 4000, 8), (3, 4000, 5)]
        for mask, layer_widths in zip(masks, widths, strict=True):
            for member, (rate, width) in enumerate(zip(rates, layer_widths, strict=True)):
                own = mask[member, :, :width]
                expected = [1.0] if rate == 0 else [0.0, 1 / (1 - rate)]
                assert own.unique().tolist() == pytest.approx(expected, rel=1e-4)  # rates have 16 bits
                assert float((own == 0).double().mean()) == pytest.approx(rate, abs=0.02)
                assert float(own.mean()) == pytest.approx(1.0, abs=0.06)

    def test_nobody_drops_anything(self, kind: str) -> None:
        assert make(kind, [0, 1], widths=[[3, 3]]).masks(5) is None

    def test_steps_layers_rows_and_members_do_not_repeat(self, kind: str) -> None:
        draws = make(kind, [1, 2], rates=[0.5, 0.5], widths=[[64, 64], [64, 64]])
        kept = [mask[member] > 0 for s in range(3) for mask in masks_at(draws, s, 64) for member in range(2)]
        rows = torch.cat(kept)  # (steps x layers x members x batch, width)
        agreement = (rows.double() * 2 - 1) @ (rows.double() * 2 - 1).T / 64
        agreement.fill_diagonal_(0)
        assert float(agreement.abs().max()) < 0.8  # 64 coins: 0.8 is 6 standard deviations

    def test_a_member_draws_the_same_in_any_pack(self, kind: str) -> None:
        def drawn(rates: list[float], seeds: list[int], widths: list[list[int]]) -> list[list[Tensor]]:
            draws = make(kind, seeds, rates=rates, widths=widths)
            return [masks_at(draws, step, 5) for step in range(3)]

        alone = drawn([0.5], [9], [[4], [3]])
        together = drawn([0.0, 0.5, 0.1], [1, 9, 2], [[7, 4, 2], [3, 3, 6]])
        for step, masks in enumerate(alone):
            for layer, mask in enumerate(masks):
                assert torch.equal(mask[0], together[step][layer][1, :, : mask.shape[2]])
        assert not torch.equal(alone[0][0], alone[1][0])


def test_generators_leave_padding_alone() -> None:
    (mask,) = masks_at(make("generators", [0, 1], rates=[0.5, 0.5], widths=[[3, 8]]), 0, 100)
    assert (mask[0, :, 3:] == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("within_epoch", [True, False], ids=["within an epoch", "between epochs"])
def test_a_state_continues_the_numbers(kind: str, within_epoch: bool) -> None:
    def new(seeds: Sequence[int]) -> Draws:
        return make(kind, seeds, flip=True, rates=[0.3] * len(seeds), widths=[[6] * len(seeds)])

    def rest(draws: Draws) -> list[Tensor]:
        order, flips = draws.epoch(1 if within_epoch else 2)
        assert flips is not None
        return [order[-1], flips[-1], *(mask[-1] for s in range(5, 8) for mask in masks_at(draws, s, 4))]

    first = new([1, 2])
    for number in range(2):
        first.epoch(number)
        masks_at(first, number, 4)
    state = first.state(1, within_epoch)
    second = new([2])  # in another pack
    second.restore(0, state)
    expected = rest(second)
    again = new([2])
    again.restore(0, state)
    assert all(torch.equal(a, b) for a, b in zip(expected, rest(again), strict=True))
    if not within_epoch:
        assert all(torch.equal(a, b) for a, b in zip(expected, rest(first), strict=True))


def test_states_of_another_kind_are_refused() -> None:
    generators, counters = make("generators", [1]), make("counters", [1])
    generators.epoch(0)
    with pytest.raises(ValueError, match=r"the state has generators \[\], needed are \['dropout', 'order'\]"):
        generators.restore(0, counters.state(0, True))
    with pytest.raises(ValueError, match=r"generators \['dropout', 'order'\], counters need none"):
        counters.restore(0, generators.state(0, True))
    broken = generators.state(0, True) | {"order": torch.zeros(3, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="the state of the generator 'order' does not fit"):
        generators.restore(0, broken)


def test_mixing_is_one_to_one_and_scatters() -> None:
    values = torch.arange(2**16, dtype=torch.int32) - 2**15
    found = mixed(values)
    assert len(found.unique()) == 2**16
    assert int(values[0]) == -(2**15)  # the argument is untouched
    for bit in range(32):
        share = float(((found >> bit) & 1).double().mean())
        assert share == pytest.approx(0.5, abs=0.012), bit
    for bit in range(16):  # each bit of the input turns half of the output's bits
        turned = found ^ mixed(values ^ (1 << bit))
        share = sum(float(((turned >> b) & 1).double().mean()) for b in range(32)) / 32
        assert share == pytest.approx(0.5, abs=0.01), bit
    assert mixed(torch.tensor([1, 2, -1], dtype=torch.int32)).tolist() == [1364076727, 821347078, -2114883783]
