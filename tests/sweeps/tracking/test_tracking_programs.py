"""Models of a front as files: what does not fit is refused, and several processes write what one does."""

from dataclasses import replace

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

import arsvd
from sweeps.ledger.records import Front
from sweeps.tracking import ModelData, SweepWriter, exporting, load_best, log_front


@pytest.fixture
def run_id(client: MlflowClient, data: ModelData) -> str:
    return SweepWriter(client).start(
        sweep="digits-1", dataset="digits", params={}, reference_params=1_274, data_hash=data.hash
    )


class _CountsItsRows(nn.Module):
    """Asks for its batch size in Python, so that its export is fixed to the one it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(x.flatten(1))
        return logits * 2 if x.shape[0] == 3 else logits


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            arsvd.MLP([64, 3]),
            r"a model of 'digits' must map \(3, 1, 8, 8\) to \(3, 10\), got \(3, 3\)",
        ),
        (_CountsItsRows(), "cannot be exported with a dynamic batch"),
    ],
    ids=["too few classes", "a fixed batch"],
)
def test_models_that_do_not_fit(
    network: nn.Module, says: str, client: MlflowClient, run_id: str, front: Front, data: ModelData
) -> None:
    with pytest.raises(ValueError, match=says):
        log_front(client, run_id, front, lambda entry: network, data)


def test_several_processes_export_what_one_does(
    client: MlflowClient,
    run_id: str,
    front: Front,
    models: dict[str, nn.Module],
    data: ModelData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.linspace(0, 1, 7 * 64).reshape(7, 1, 8, 8)
    monkeypatch.setattr(exporting, "processes", lambda count, cores: 2)
    logged = log_front(client, run_id, front, lambda entry: models[entry.key], data)
    assert [entry.version.params for entry in logged] == [entry.point.params for entry in front.points]
    for entry in front.points:
        model = load_best("digits", max_params=entry.point.params)
        with torch.no_grad():
            torch.testing.assert_close(model(images), models[entry.key](images), rtol=0, atol=0)
    other = replace(front, points=tuple(replace(entry, key=f"other {entry.key}") for entry in front.points))
    with pytest.raises(ValueError, match="cannot be exported with a dynamic batch"):
        log_front(client, run_id, other, lambda entry: _CountsItsRows(), data)


def test_one_example_image_is_enough(
    client: MlflowClient, run_id: str, front: Front, models: dict[str, nn.Module], data: ModelData
) -> None:
    single = replace(data, examples=data.examples[:1])
    short = replace(front, points=front.points[:1])
    (entry,) = log_front(client, run_id, short, lambda entry: models[entry.key], single)
    assert entry.version.version == 1
