"""What is drawn for members, by generators and by counters: order, flips, dropout."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from arsvd.training.counters import CounterDraws, mixed
from arsvd.training.draws import Draws, GeneratorDraws, Stream

SAMPLES = 50
KINDS = ("generators", "counters")


def make(kind: str, seeds: Sequence[int]) -> Draws:
    if kind == "generators":
        return GeneratorDraws(seeds, torch.float64)
    return CounterDraws(seeds, torch.float64, torch.device("cpu"))


def masks_of(
    kind: str, seeds: Sequence[int], rates: Sequence[float], widths: Sequence[Sequence[int]], batch: int
) -> list[list[Tensor]]:
    """Draw the masks of three steps."""
    draws = make(kind, seeds)
    drawn, steps = draws.stream(2).masks(rates, widths), []
    for step in range(3):
        draws.at(step)
        steps.append(drawn(batch))
    return steps


@pytest.mark.parametrize("kind", KINDS)
class TestEpochs:
    def test_each_is_a_new_permutation_of_each_member(self, kind: str) -> None:
        stream = make(kind, [3, 4]).stream(0)
        first, second = (stream.orders(number, SAMPLES) for number in range(2))
        for order in (first, second):
            assert torch.equal(order.sort(dim=1).values, torch.arange(SAMPLES).expand(2, -1))
        assert not torch.equal(first, second)
        assert not torch.equal(first[0], first[1])

    def test_orders_are_uniform(self, kind: str) -> None:
        """Where image 0 goes, and which comes first, over many seeds: chi squared with 9 degrees."""
        order = make(kind, range(2000)).stream(0).orders(0, 10)
        for found in (order[:, 0], (order == 0).int().argmax(1), order[:, 9]):
            counts = torch.bincount(found, minlength=10).double()
            assert float(((counts - 200) ** 2 / 200).sum()) < 33.7  # exceeded once in 10,000

    def test_coins_fall_on_either_side(self, kind: str) -> None:
        stream = make(kind, [0, 1]).stream(1)
        coins = torch.cat([stream.coins(number, SAMPLES) for number in range(40)], dim=1)
        assert coins.shape == (2, 2000)
        assert coins.dtype == torch.bool
        shares = coins.double().mean(1)
        assert ((shares - 0.5).abs() < 4 * 0.5 / 2000**0.5).all()
        assert not torch.equal(coins[0], coins[1])

    def test_a_member_sees_the_same_in_any_pack(self, kind: str) -> None:
        alone, together = make(kind, [7]).stream(1), make(kind, [1, 7]).stream(1)
        for number in range(2):
            assert torch.equal(alone.orders(number, SAMPLES)[0], together.orders(number, SAMPLES)[1])
        for number in range(2, 4):
            assert torch.equal(alone.coins(number, SAMPLES)[0], together.coins(number, SAMPLES)[1])

    def test_streams_differ(self, kind: str) -> None:
        draws = make(kind, [7])
        orders = [draws.stream(number).orders(0, SAMPLES) for number in range(4)]
        assert len({tuple(order[0].tolist()) for order in orders}) == 4


@pytest.mark.parametrize("kind", KINDS)
class TestDropout:
    def test_masks_scale_what_they_keep(self, kind: str) -> None:
        rates, widths = [0.0, 0.25, 0.8], [[6, 4, 8], [3, 5, 5]]
        masks = masks_of(kind, [0, 1, 2], rates, widths, 4000)[0]
        assert [tuple(mask.shape) for mask in masks] == [(3, 4000, 8), (3, 4000, 5)]
        for mask, layer_widths in zip(masks, widths, strict=True):
            for member, (rate, width) in enumerate(zip(rates, layer_widths, strict=True)):
                own = mask[member, :, :width]
                expected = [1.0] if rate == 0 else [0.0, 1 / (1 - rate)]
                assert own.unique().tolist() == pytest.approx(expected, rel=1e-4)  # rates have 16 bits
                assert float((own == 0).double().mean()) == pytest.approx(rate, abs=0.02)
                assert float(own.mean()) == pytest.approx(1.0, abs=0.06)

    def test_steps_layers_rows_and_members_do_not_repeat(self, kind: str) -> None:
        steps = masks_of(kind, [1, 2], [0.5, 0.5], [[64, 64], [64, 64]], 64)
        kept = [mask[member] > 0 for masks in steps for mask in masks for member in range(2)]
        rows = torch.cat(kept)  # (steps x layers x members x batch, width)
        agreement = (rows.double() * 2 - 1) @ (rows.double() * 2 - 1).T / 64
        agreement.fill_diagonal_(0)
        assert float(agreement.abs().max()) < 0.8  # 64 coins: 0.8 is 6 standard deviations

    def test_a_member_draws_the_same_in_any_pack(self, kind: str) -> None:
        alone = masks_of(kind, [9], [0.5], [[4], [3]], 5)
        together = masks_of(kind, [1, 9, 2], [0.0, 0.5, 0.1], [[7, 4, 2], [3, 3, 6]], 5)
        for step, masks in enumerate(alone):
            for layer, mask in enumerate(masks):
                assert torch.equal(mask[0], together[step][layer][1, :, : mask.shape[2]])
        assert not torch.equal(alone[0][0], alone[1][0])


def test_generators_leave_padding_alone() -> None:
    (mask,) = masks_of("generators", [0, 1], [0.5, 0.5], [[3, 8]], 100)[0]
    assert (mask[0, :, 3:] == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("within_epoch", [True, False], ids=["within an epoch", "between epochs"])
def test_a_state_continues_the_numbers(kind: str, within_epoch: bool) -> None:
    """Three streams of a member that goes on in another pack."""

    def new(seeds: Sequence[int]) -> tuple[Draws, list[Stream]]:
        draws = make(kind, seeds)
        return draws, [draws.stream(number) for number in range(3)]

    def rest(draws: Draws, streams: Sequence[Stream], members: int) -> list[Tensor]:
        epoch = 1 if within_epoch else 2
        found = [streams[0].orders(epoch, SAMPLES)[-1], streams[1].coins(epoch, SAMPLES)[-1]]
        drawn = streams[2].masks([0.3] * members, [[6] * members])
        for step in range(5, 8):
            draws.at(step)
            found += [mask[-1] for mask in drawn(4)]
        return found

    draws, first = new([1, 2])
    drawn = first[2].masks([0.3, 0.3], [[6, 6]])
    for number in range(2):
        first[0].orders(number, SAMPLES)
        first[1].coins(number, SAMPLES)
        draws.at(number)
        drawn(4)
    states = [stream.state(1, within_epoch) for stream in first]

    def again() -> list[Tensor]:
        draws, streams = new([2])
        for stream, state in zip(streams, states, strict=True):
            stream.restore(0, state)
        return rest(draws, streams, 1)

    expected = again()
    assert all(torch.equal(a, b) for a, b in zip(expected, again(), strict=True))
    if not within_epoch:
        assert all(torch.equal(a, b) for a, b in zip(expected, rest(draws, first, 2), strict=True))


def test_states_of_another_kind_are_refused() -> None:
    generators, counters = make("generators", [1]).stream(0), make("counters", [1]).stream(0)
    with pytest.raises(ValueError, match=r"the state has \[\], needed is a generator"):
        generators.restore(0, counters.state(0, True))
    with pytest.raises(ValueError, match=r"the state has \['generator'\], counters need none"):
        counters.restore(0, generators.state(0, True))
    with pytest.raises(ValueError, match="the generator's state: "):
        generators.restore(0, {"generator": torch.zeros(3, dtype=torch.uint8)})


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
