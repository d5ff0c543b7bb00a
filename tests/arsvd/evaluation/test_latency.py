"""Latency: its figures' structure, who is called and how; never how fast this machine is."""

import json
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.evaluation.latency import BATCHES, Latency, measure_latency

FIGURES = Latency(256, 1, "cpu", 200, 250.0, 300.0, 1000.0, 1200.0)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


class Spy(nn.Module):
    """Notes who is called, with how many rows, on how many threads, and in which mode."""

    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__()
        self.name, self.calls = name, calls
        self.rows: set[int] = set()
        self.states: set[tuple[int, bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.name)
        self.rows.add(len(x))
        self.states.add((torch.get_num_threads(), self.training, torch.is_inference_mode_enabled()))
        return x


@pytest.mark.parametrize("device", DEVICES)
def test_every_model_has_figures_for_every_batch(device: str) -> None:
    dense = arsvd.MLP([12, 14, 4]).to(device)
    spectra = arsvd.spectra(dense)
    small = [
        arsvd.compress(dense, spectra, arsvd.plan(spectra, arsvd.Ranks((rank, None)))) for rank in (1, 3)
    ]
    found = measure_latency(dense, small, torch.rand(5, 12, device=device), threads=2, seconds=0.01)
    assert len(found) == 2
    for entries in found:
        assert [entry.batch for entry in entries] == list(BATCHES) == [1, 256]
        for entry in entries:
            assert (entry.threads, entry.device) == (2, device)
            assert 12 <= entry.repeats <= 80
            assert 0 < entry.median_us <= entry.p95_us
            assert 0 < entry.dense_median_us <= entry.dense_p95_us
            assert entry.speedup == entry.dense_median_us / entry.median_us
    first, second = found
    for one, other in zip(first, second, strict=True):
        assert (one.dense_median_us, one.dense_p95_us) == (other.dense_median_us, other.dense_p95_us)


def test_models_take_turns_after_the_dense_one() -> None:
    calls: list[str] = []
    dense, *others = (Spy(name, calls) for name in "dab")
    (entry,), _ = measure_latency(dense, others, torch.rand(3, 2), batches=[7], seconds=1e-9)
    # first a call each to warm up, then rounds of one call that is not counted and four that are
    assert "".join(calls) == "dab" + 3 * ("d" * 5 + "a" * 5 + "b" * 5)
    assert entry.repeats == 12
    assert {rows for model in (dense, *others) for rows in model.rows} == {7}


def test_rounds_are_bounded_however_long_there_is() -> None:
    (found,) = measure_latency(nn.Identity(), [nn.Identity()], torch.rand(1, 2), batches=[1], seconds=3600.0)
    assert found[0].repeats == 80


def test_modes_and_threads_are_set_and_restored() -> None:
    calls: list[str] = []
    dense, other = Spy("d", calls), Spy("a", calls)
    other.eval()
    before = torch.get_num_threads()
    measure_latency(dense, [other], torch.rand(1, 2), batches=[1], threads=before + 1, seconds=1e-9)
    assert dense.states == other.states == {(before + 1, False, True)}
    assert (torch.get_num_threads(), dense.training, other.training) == (before, True, False)
    with pytest.raises(RuntimeError):
        measure_latency(nn.Linear(3, 3), [dense], torch.rand(1, 2), threads=before + 1)
    assert (torch.get_num_threads(), dense.training) == (before, True)


def test_no_models_have_no_figures() -> None:
    assert measure_latency(nn.Identity(), [], torch.rand(1, 2), seconds=1e-9) == []


def test_figures_survive_json() -> None:
    assert Latency.from_dict(json.loads(json.dumps(FIGURES.to_dict()))) == FIGURES
    assert FIGURES.speedup == 4.0
    assert FIGURES.place == "cpu, 1 thread"
    assert replace(FIGURES, threads=2).place == "cpu, 2 threads"


def test_figures_that_are_not_whole_are_refused() -> None:
    values = FIGURES.to_dict()
    assert len(values) == len(fields(Latency)) == 8
    for name in values:
        with pytest.raises(ValueError, match="a latency has the fields"):
            Latency.from_dict({key: value for key, value in values.items() if key != name})
    for wrong in ({**values, "colour": 2}, 3):
        with pytest.raises(ValueError, match="a latency has the fields"):
            Latency.from_dict(wrong)  # type: ignore[arg-type]
    for name in ("median_us", "p95_us", "dense_median_us", "dense_p95_us"):
        with pytest.raises(ValueError, match=f"{name} must be above 0 microseconds, got 0"):
            Latency.from_dict({**values, name: 0})


@pytest.mark.parametrize(
    ("shape", "options", "says"),
    [
        pytest.param((0, 2), {}, r"one row of inputs or more, got the shape \(0, 2\)", id="no rows"),
        pytest.param((), {}, r"one row of inputs or more, got the shape \(\)", id="no dimension"),
        pytest.param((1, 2), {"threads": 0}, "threads must be at least 1, got 0", id="no threads"),
        pytest.param((1, 2), {"batches": [1, 0]}, "a batch must be at least 1, got 0", id="empty batch"),
        pytest.param((1, 2), {"seconds": 0.0}, "seconds must be above 0, got 0.0", id="no time"),
        pytest.param((1, 2), {"seconds": float("nan")}, "above 0, got nan", id="no number"),
    ],
)
def test_refuses(shape: tuple[int, ...], options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measure_latency(nn.Identity(), [nn.Identity()], torch.rand(shape), **options)  # type: ignore[arg-type]
