"""The loop: packs against members alone, same seeds, failures, distillation, and learning."""

import dataclasses
import re
import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import arsvd
from arsvd.data import Dataset
from arsvd.training import (
    Architecture,
    Hyperparameters,
    MemberState,
    Pack,
    TrainingResult,
    dense_architecture,
    new_architecture,
    normalized,
    pack_logits,
    train,
)

# Members that differ in everything in which they may differ.
MEMBERS = (
    Hyperparameters(lr=3e-3, seed=1, settings={"model.dropout": 0.3}),
    Hyperparameters(lr=1e-2, seed=2, weight_decay=0.3, settings={"training.label_smoothing": 0.1}),
    Hyperparameters(
        lr=1e-3,
        seed=3,
        weight_decay=0.01,
        settings={
            "model.dropout": 0.1,
            "compression.distillation.weight": 0.4,
            "compression.distillation.temperature": 2.0,
        },
    ),
    Hyperparameters(lr=2e-3, seed=4),
)
WIDTHS = ((24, 16), (8, 30), (40, 5), (17, 17))


def mirrored(member: Hyperparameters, flip: bool) -> Hyperparameters:
    return dataclasses.replace(member, settings={**member.settings, "training.flip": flip})


def compressed(dtype: torch.dtype) -> list[arsvd.MLP]:
    models = []
    for ranks in ((3, 2, 1), (1, 4, 2), (6, 1, 3), (2, 2, 2)):
        model = arsvd.MLP([64, 20, 15, 10]).to(dtype)
        spectra = arsvd.spectra(model)
        models.append(arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks(ranks))))
    return models


Make = Callable[[Sequence[int], str], Pack]


def seeded(architectures: Sequence[Architecture]) -> Make:
    def make(chosen: Sequence[int], device: str) -> Pack:
        seeds = [MEMBERS[i].seed for i in chosen]
        return Pack.from_seeds([architectures[i] for i in chosen], seeds, device, torch.float64)

    return make


def from_models(chosen: Sequence[int], device: str) -> Pack:
    torch.manual_seed(0)
    models = compressed(torch.float64)
    return Pack.from_models([models[i] for i in chosen], device, torch.float64)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    ),
]
PACKS: dict[str, Make] = {
    "equal widths": seeded([dense_architecture([64, 20, 10])] * 4),
    "different widths": seeded([dense_architecture([64, *w, 10]) for w in WIDTHS]),
    "two factors, different widths": seeded(
        [new_architecture([64, *w, 10], {"model.factors": 2}) for w in WIDTHS]
    ),
    "compressed to different ranks": from_models,
}


@pytest.fixture(scope="module")
def teacher(digits: Dataset) -> Tensor:
    """Logits of a made-up teacher: (1, plain and mirrored, samples, classes)."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(1, 2, len(digits.train.labels), 10, dtype=torch.float64, generator=generator)


def assert_as_alone(run: Callable[[Sequence[int]], tuple[Pack, TrainingResult]]) -> None:
    """Train four members in one pack, and each alone."""
    pack, result = run(range(4))
    for member in range(4):
        alone, alone_result = run([member])
        for stacked, own in zip(pack.parameters, alone.parameters, strict=True):
            rows, columns = own.shape[1:]
            torch.testing.assert_close(stacked[member, :rows, :columns], own[0], rtol=1e-9, atol=1e-11)
            padding = stacked[member].clone()
            padding[:rows, :columns] = 0
            assert not padding.any()
        for key, curve in alone_result.curves[0].items():
            assert result.curves[member][key] == pytest.approx(curve, rel=1e-9), key


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flips"])
@pytest.mark.parametrize("name", PACKS)
def test_a_pack_equals_its_members_trained_alone(
    digits: Dataset, teacher: Tensor, name: str, flip: bool, device: str
) -> None:
    data, taught = digits.to(device), teacher.to(device)

    def run(chosen: Sequence[int]) -> tuple[Pack, TrainingResult]:
        pack = PACKS[name](chosen, device)
        members = [mirrored(MEMBERS[i], flip) for i in chosen]
        result = train(pack, data, members, epochs=2, batch_size=96, teacher=taught)
        return pack, result

    assert_as_alone(run)


class TestSeeds:
    def run(self, digits: Dataset, seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> Pack:
        pack = Pack.from_seeds([dense_architecture([64, 20, 10])] * len(seeds), seeds, dtype=dtype)
        members = [
            Hyperparameters(lr=1e-2, seed=seed, settings={"model.dropout": 0.2, "training.flip": True})
            for seed in seeds
        ]
        train(pack, digits, members, epochs=2, batch_size=64)
        return pack

    def test_same_seeds_give_bit_equal_weights(self, digits: Dataset) -> None:
        first, second = self.run(digits, [1, 2]), self.run(digits, [1, 2])
        assert all(torch.equal(a, b) for a, b in zip(first.parameters, second.parameters, strict=True))

    def test_different_seeds_differ(self, digits: Dataset) -> None:
        pack = self.run(digits, [1, 2, 1])
        assert all(torch.equal(p[0], p[2]) for p in pack.parameters)
        assert not any(torch.equal(p[0], p[1]) for p in pack.parameters)

    def test_neither_reads_nor_moves_the_global_generator(self, digits: Dataset) -> None:
        torch.manual_seed(1)
        first, state = self.run(digits, [1]), torch.get_rng_state()
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        second = self.run(digits, [1])
        assert all(torch.equal(a, b) for a, b in zip(first.parameters, second.parameters, strict=True))


class TestFailures:
    HEALTHY = (MEMBERS[0], MEMBERS[1], MEMBERS[3])
    DIVERGING = Hyperparameters(lr=1e30, seed=9)

    def run(self, digits: Dataset, members: Sequence[Hyperparameters]) -> tuple[Pack, TrainingResult]:
        seeds = [member.seed for member in members]
        pack = Pack.from_seeds([dense_architecture([64, 20, 10])] * len(members), seeds)
        return pack, train(pack, digits, members, epochs=3, batch_size=64)

    def test_a_diverging_member_does_not_touch_a_bit_of_the_others(self, digits: Dataset) -> None:
        a, b, c = self.HEALTHY
        pack, result = self.run(digits, [a, self.DIVERGING, b, c])
        without, expected = self.run(digits, [a, b, c])
        assert list(result.failures) == [1]
        for stacked, own in zip(pack.parameters, without.parameters, strict=True):
            assert torch.equal(stacked[[0, 2, 3]], own)
        assert [result.curves[i] for i in (0, 2, 3)] == expected.curves
        assert expected.failures == {}

    def test_the_cause_of_a_divergence_is_reported_and_its_curves_end(self, digits: Dataset) -> None:
        _, result = self.run(digits, [self.HEALTHY[0], self.DIVERGING])
        message = r"the loss was not finite in epoch 1 \(training (nan|inf), validation (nan|inf)\); a lower"
        assert re.match(message, result.failures[1])
        assert result.curves[1] == {key: [] for key in result.curves[0]}
        assert all(len(curve) == 3 for curve in result.curves[0].values())

    def test_a_pack_of_failures_ends_at_once(self, digits: Dataset) -> None:
        _, result = self.run(digits, [self.DIVERGING] * 2)
        assert (sorted(result.failures), result.epochs) == ([0, 1], 1)


class TestLearning:
    @pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
    @pytest.mark.parametrize("factors", [1, 2])
    def test_digits_are_learned_in_a_few_epochs(self, digits: Dataset, factors: int, schedule: str) -> None:
        pack = Pack.from_seeds([new_architecture([64, 64, 10], {"model.factors": factors})], [0])
        members = [Hyperparameters(lr=1e-2, weight_decay=0.01)]
        result = train(pack, digits, members, epochs=10, batch_size=32, schedule=schedule)
        (curves,) = result.curves
        assert curves["validation_accuracy"][-1] > 0.95
        assert curves["train_loss"][-1] < 0.2 * curves["train_loss"][0]
        metrics = arsvd.evaluate(
            pack.model(0, merge=True),
            normalized(digits.validation.images, digits.mean, digits.std),
            digits.validation.labels,
        )
        assert metrics.accuracy == pytest.approx(curves["validation_accuracy"][-1])
        assert metrics.loss == pytest.approx(curves["validation_loss"][-1], rel=1e-4)

    def test_curves_have_a_value_an_epoch(self, digits: Dataset) -> None:
        seen: list[int] = []
        pack = Pack.from_seeds([dense_architecture([64, 8, 10])] * 2, [0, 1])
        members = [Hyperparameters(lr=1e-3, seed=0), Hyperparameters(lr=2e-3, seed=1)]
        result = train(
            pack,
            digits,
            members,
            epochs=4,
            batch_size=64,
            schedule="cosine",
            on_epoch=lambda r: seen.append(r.epochs),
        )
        assert seen == [1, 2, 3, 4]
        for member, curves in zip(members, result.curves, strict=True):
            assert {key: len(curve) for key, curve in curves.items()} == dict.fromkeys(
                ("train_loss", "validation_loss", "validation_accuracy", "lr"), 4
            )
            half = 0.5 * member.lr
            assert curves["lr"] == pytest.approx(
                [member.lr * 0.853553, half, member.lr * 0.146447, 0.0], rel=1e-5
            )
        assert not any(p.requires_grad for p in pack.parameters)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
    def test_on_a_gpu_as_well_as_on_the_cpu(self, digits: Dataset) -> None:
        """Other random numbers and tf32, hence not the same network, but as good a one."""
        reached = []
        for device in ("cpu", "cuda"):
            pack = Pack.from_seeds([dense_architecture([64, 64, 10])] * 8, range(8), device=device)
            members = [
                Hyperparameters(lr=1e-2, seed=seed, settings={"model.dropout": 0.1}) for seed in range(8)
            ]
            result = train(pack, digits.to(device), members, epochs=10, batch_size=32)
            accuracies = [curves["validation_accuracy"][-1] for curves in result.curves]
            assert min(accuracies) > 0.93
            reached.append(sum(accuracies) / 8)
            assert next(pack.model(0, merge=True).parameters()).device.type == "cpu"
        assert reached[0] == pytest.approx(reached[1], abs=0.01)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
    def test_a_gpu_is_waited_for_once_an_epoch(self, digits: Dataset) -> None:
        """A wait inside an epoch would be one a step; some are spent on the start and the capture."""
        pack = Pack.from_seeds([dense_architecture([64, 16, 10])] * 2, [0, 1], device="cuda")
        members = [
            Hyperparameters(lr=1e-2, seed=seed, settings={"model.dropout": 0.1, "training.flip": True})
            for seed in (0, 1)
        ]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                train(pack, digits.to("cuda"), members, epochs=3, batch_size=8)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(waits) < 100  # of 429 steps

    def test_fine_tuning_with_a_teacher_recovers_what_compression_lost(
        self, digits: Dataset, trained: arsvd.MLP, validation: tuple[Tensor, Tensor]
    ) -> None:
        spectra = arsvd.spectra(trained)
        small = arsvd.compress(trained, spectra, arsvd.plan(spectra, arsvd.Ranks((5, 3, 3))))
        teacher = pack_logits(Pack.from_models([trained]), digits.train, digits)[:, None]
        pack = Pack.from_models([small])
        members = [
            Hyperparameters(
                lr=5e-3,
                settings={
                    "compression.distillation.weight": 0.7,
                    "compression.distillation.temperature": 2.0,
                },
            )
        ]
        train(pack, digits, members, epochs=6, batch_size=64, teacher=teacher)
        recovered = pack.model(0, merge=False)
        assert str(recovered) == str(small)
        lost, won = (arsvd.evaluate(model, *validation).accuracy for model in (small, recovered))
        assert won > lost + 0.1

    def test_distillation_alone_needs_no_labels(self, digits: Dataset, trained: arsvd.MLP) -> None:
        """With the teacher's whole weight the labels may be wrong."""
        labels = digits.train.labels.roll(1)
        wrong = type(digits.train)(digits.train.images, labels)
        data = dataclasses.replace(digits, train=wrong)
        teacher = pack_logits(Pack.from_models([trained]), digits.train, digits)[:, None]
        pack = Pack.from_seeds([dense_architecture([64, 32, 10])], [0])
        result = train(
            pack,
            data,
            [Hyperparameters(lr=1e-2, settings={"compression.distillation.weight": 1.0})],
            epochs=6,
            batch_size=32,
            teacher=teacher,
        )
        assert result.curves[0]["validation_accuracy"][-1] > 0.85


class TestOneOrderForAll:
    """Members of one seed without dropout see the same batches, which are gathered and multiplied once."""

    @pytest.mark.parametrize("name", PACKS)
    @pytest.mark.parametrize("flip", [False, True], ids=["plain", "flips"])
    def test_equals_members_alone(self, digits: Dataset, teacher: Tensor, name: str, flip: bool) -> None:
        rates = (1e-2, 3e-3, 1e-3, 2e-3)

        def run(chosen: Sequence[int]) -> tuple[Pack, TrainingResult]:
            pack = PACKS[name](chosen, "cpu")
            settings = {"compression.distillation.weight": 0.5, "training.flip": flip}
            members = [Hyperparameters(lr=rates[i], seed=11, settings=settings) for i in chosen]
            result = train(pack, digits, members, epochs=2, batch_size=96, teacher=teacher)
            return pack, result

        assert_as_alone(run)

    def test_goes_on_from_states(self, digits: Dataset) -> None:
        flips = {"training.flip": True}
        members = [Hyperparameters(lr=lr, seed=3, settings=flips) for lr in (1e-2, 1e-3)]
        states: dict[int, list[MemberState]] = {}

        def run(given: Sequence[MemberState] | None = None) -> Pack:
            pack = Pack.from_seeds([dense_architecture([64, 8, 10])] * 2, [3, 4])
            train(
                pack, digits, members, epochs=2, batch_size=96, states=given,
                on_checkpoint=lambda _, state: states.setdefault(state.steps, []).append(state),
                checkpoint_every=0.0,
            )  # fmt: skip
            return pack

        whole, taken = run(), dict(states)
        assert len(taken) > 10
        for steps in (1, 5, max(taken) // 2):
            again = run(taken[steps][:2])
            assert all(torch.equal(a, b) for a, b in zip(whole.parameters, again.parameters, strict=True))


class TestPackLogits:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_equal_those_of_the_models(self, digits: Dataset, mirrored: bool) -> None:
        pack = Pack.from_seeds([dense_architecture([64, w, 10]) for w in (8, 5)], [0, 1])
        logits = pack_logits(pack, digits.validation, digits, mirrored)
        images = digits.validation.images.flip(-1) if mirrored else digits.validation.images
        x = normalized(images, digits.mean, digits.std)
        assert logits.shape == (2, len(x), 10)
        for member in range(2):
            torch.testing.assert_close(
                logits[member], pack.model(member, merge=False)(x).detach(), rtol=1e-4, atol=1e-5
            )
