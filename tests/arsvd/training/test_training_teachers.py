"""Teachers and validation: which logits a member learns from, and how it is measured meanwhile."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arsvd.data import Dataset
from arsvd.training import Hyperparameters, Pack, dense_architecture, measuring, pack_logits, train
from arsvd.training.measuring import Validation


class TestTeachers:
    def test_each_image_gets_its_own_logits(self, digits: Dataset) -> None:
        """A teacher per member, with other logits for mirrored images: as if alone with one's own."""
        generator = torch.Generator().manual_seed(6)
        teachers = torch.randn(2, 2, len(digits.train.labels), 10, generator=generator).double() * 4
        settings = {"compression.distillation.weight": 1.0, "training.flip": True}
        members = [Hyperparameters(lr=1e-2, seed=s, settings=settings) for s in (1, 2)]

        def run(chosen: Sequence[int], taught: Tensor) -> Pack:
            pack = Pack.from_seeds(
                [dense_architecture([64, 8, 10])] * len(chosen),
                [members[i].seed for i in chosen],
                dtype=torch.float64,
            )
            mine = [members[i] for i in chosen]
            train(pack, digits, mine, epochs=1, batch_size=64, teacher=taught)
            return pack

        both = run([0, 1], teachers)
        for member in range(2):
            own = teachers[member : member + 1]
            alone = run([member], own)
            others = [run([member], own[:, [a, b]]) for a, b in ((0, 0), (1, 1), (1, 0))]
            for index, stacked in enumerate(both.parameters):
                torch.testing.assert_close(stacked[member], alone.parameters[index][0])
                for other in others:
                    assert not torch.allclose(alone.parameters[index], other.parameters[index])

    def test_members_train_alike_with_one_teacher_or_several(self, digits: Dataset) -> None:
        generator = torch.Generator().manual_seed(7)
        teachers = torch.randn(3, 1, len(digits.train.labels), 10, generator=generator).double() * 4
        taught_by, seeds = [2, 0, 2], [4, 5, 6]

        def run(seeds: Sequence[int], teacher: Tensor, taught_by: Sequence[int] | None) -> Pack:
            pack = Pack.from_seeds([dense_architecture([64, 8, 10])] * len(seeds), seeds, dtype=torch.float64)
            settings = {"compression.distillation.weight": 1.0}
            members = [Hyperparameters(lr=1e-2, seed=seed, settings=settings) for seed in seeds]
            train(pack, digits, members, epochs=1, batch_size=64, teacher=teacher, taught_by=taught_by)
            return pack

        together = run(seeds, teachers, taught_by)
        for member, (seed, number) in enumerate(zip(seeds, taught_by, strict=True)):
            alone = run([seed], teachers[number : number + 1], None)
            for index, stacked in enumerate(together.parameters):
                torch.testing.assert_close(stacked[member], alone.parameters[index][0])


@pytest.mark.parametrize("kept", [0, 2**26], ids=["normalised each time", "kept"])
def test_validation_is_that_of_the_logits(
    digits: Dataset, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "KEPT_NUMBERS", kept)
    pack = Pack.from_seeds([dense_architecture([64, 8, 10])] * 2, [0, 1])
    validation = Validation(pack, digits)
    for _ in range(2):
        losses, accuracies = validation.measure()
        for member, logits in enumerate(pack_logits(pack, digits.validation, digits)):
            labels = digits.validation.labels
            assert losses[member] == pytest.approx(F.cross_entropy(logits, labels).item())
            assert accuracies[member] == (logits.argmax(1) == labels).double().mean().item()
        pack.weights[0][0].mul_(1.5)  # as training would
