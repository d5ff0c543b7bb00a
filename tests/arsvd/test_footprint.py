"""Rows of a pass: bounded by what the model computes for each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import footprint
from arsvd.evaluation.confidence import answers
from arsvd.evaluation.evaluator import Evaluator
from arsvd.footprint import rows_at_once


class Wide(nn.Module):
    """Makes 1,000 numbers of each of its 4 inputs, and remembers how many rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        wide = x.unsqueeze(-1) * torch.ones(1000, dtype=x.dtype)
        logits: Tensor = self.fc(wide.mean(-1))
        return logits


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "MOST_BYTES", 10 * 20_000)  # ten rows of such a model, and no eleven


def inputs(rows: int = 64) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(64) % 3
CALLS: dict[str, Callable[[nn.Module, arsvd.Spectra], Any]] = {
    "spectra": lambda model, _: [one.energy for one in arsvd.spectra(model, inputs())],
    "loss basis": lambda model, _: [one.energy for one in arsvd.spectra(model, inputs(), basis="loss")],
    "evaluate": lambda model, _: arsvd.evaluate(model, inputs(), LABELS).loss,
    "front": lambda model, spectra: [p.loss for p in arsvd.front(model, spectra, (inputs(), LABELS))],
    "evaluator": lambda model, spectra: [
        found.loss for found in Evaluator(model, spectra, inputs(), LABELS).metrics([(2,), (None,)]).values()
    ],
    "answers": lambda model, _: answers(model, inputs(), LABELS),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.usefixtures("few")
def test_no_pass_takes_more_rows_than_fit(call: Callable[..., Any]) -> None:
    model = Wide()
    spectra = arsvd.spectra(model)
    assert rows_at_once(model, inputs(), 4096) in range(5, 13)
    model.seen.clear()
    call(model, spectra)
    assert max(model.seen) < 13


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_bound_changes_no_result(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Wide()
    spectra = arsvd.spectra(model)
    whole = call(model, spectra)
    monkeypatch.setattr(footprint, "MOST_BYTES", 10 * 20_000)
    torch.testing.assert_close(call(model, spectra), whole)


def test_networks_of_a_sweep_take_whole_batches() -> None:
    network = arsvd.MLP([3072, 512, 256, 100])
    assert rows_at_once(network, torch.rand(10, 3, 32, 32), 8192) == 8192


def test_one_row_goes_through_whatever_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "MOST_BYTES", 10)
    assert rows_at_once(Wide(), inputs(), 4096) == 1


def test_a_model_that_fails_is_left_to_its_caller() -> None:
    assert rows_at_once(nn.Linear(5, 2), inputs(), 4096) == 4096
    assert rows_at_once(nn.Linear(4, 2), inputs(1), 4096) == 4096
    assert rows_at_once(nn.Linear(4, 2), inputs(0), 4096) == 4096


def test_progress_is_told_to_the_end() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    told: list[tuple[int, int]] = []
    spectra = arsvd.spectra(model, inputs(), batch_size=10, progress=lambda *step: told.append(step))
    assert told == [(done, 7) for done in range(1, 8)]
    told.clear()
    arsvd.front(model, spectra, (inputs(), LABELS), progress=lambda *step: told.append(step))
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))
    assert {total for _, total in told} == {len(told)}
