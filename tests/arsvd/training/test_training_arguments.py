"""What cannot be trained is refused before a weight moves."""

import pytest
import torch

from arsvd.data import Dataset
from arsvd.training import Hyperparameters, Pack, dense_architecture, train


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"members": 1}, "the pack has 2 members, hyperparameters came for 1", id="members"),
        pytest.param({"epochs": 0}, "must be at least 1, got 0 and 64", id="epochs"),
        pytest.param({"batch_size": 0}, "must be at least 1, got 1 and 0", id="batch size"),
        pytest.param(
            {"schedule": "step"},
            r"unknown schedule 'step'; there are onecycle and cosine",
            id="schedule",
        ),
        pytest.param({}, "a member distils but there are no teacher logits", id="no teacher"),
        pytest.param(
            {"teacher": (1, 1, -1, 10), "training.flip": True},
            r"must be \(2 or 1, 2, \d+, classes\)",
            id="flips",
        ),
        pytest.param(
            {"teacher": (3, 1, -1, 10)}, r"must be \(2 or 1, 1, \d+, classes\), got \(3, 1", id="teachers"
        ),
        pytest.param({"teacher": (1, 1, 7, 10)}, r"classes\), got \(1, 1, 7, 10\)", id="samples"),
        pytest.param(
            {"teacher": (3, 1, -1, 10), "taught_by": [0]},
            r"each of 2 members needs the number of one of 3 teachers, got \[0\]",
            id="teachers of some",
        ),
        pytest.param(
            {"teacher": (3, 1, -1, 10), "taught_by": [0, 3]},
            r"one of 3 teachers, got \[0, 3\]",
            id="no such teacher",
        ),
        pytest.param({"teacher": (-1, 10)}, r"classes\), got \(\d+, 10\)", id="dimensions"),
    ],
)
def test_bad_arguments(digits: Dataset, change: dict[str, object], message: str) -> None:
    pack = Pack.from_seeds([dense_architecture([64, 8, 10])] * 2, [0, 1])
    before = [parameter.clone() for parameter in pack.parameters]
    settings: dict[str, object] = {"epochs": 1, "batch_size": 64, **change}
    methods = {"compression.distillation.weight": 0.5, "training.flip": settings.pop("training.flip", False)}
    member = Hyperparameters(lr=1e-3, settings=methods)
    count = settings.pop("members", 2)
    if "teacher" in settings:
        shape = [len(digits.train.labels) if size == -1 else size for size in settings["teacher"]]  # type: ignore[attr-defined]
        settings["teacher"] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        train(pack, digits, [member] * count, **settings)  # type: ignore[arg-type, operator]
    assert all(torch.equal(a, b) for a, b in zip(pack.parameters, before, strict=True))


def test_data_on_another_device_are_refused(digits: Dataset) -> None:
    pack = Pack.from_seeds([dense_architecture([64, 8, 10])], [0])
    with pytest.raises(ValueError, match=r"the data set is on meta, the pack on cpu"):
        train(pack, digits.to("meta"), [Hyperparameters(lr=1e-3)], epochs=1, batch_size=64)
