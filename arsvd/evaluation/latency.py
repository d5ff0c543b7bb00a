"""How long models take to answer: fewer parameters do not always mean more speed."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.json_fields import Size, read_fields
from arsvd.modes import evaluation_mode, torch_threads

BATCHES = (1, 256)
_TIMED = 4  # timed calls in a model's turn
# From 20 rounds on, medians differ by 1 % between windows of one run, and by 3 % between runs, however long.
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 20


@dataclass(frozen=True)
class Latency:
    """How long one call of a model takes, beside the dense model that was timed in turn with it.

    Attributes:
        batch: number of rows per call.
        threads: number of CPU threads that an operator may use.
        device: type of the device, "cpu" or "cuda".
        repeats: number of timed calls that the figures come from.
        median_us: median time of a call, in microseconds.
        p95_us: time that 95 % of the calls do not exceed, in microseconds.
        dense_median_us: median time of a call of the dense model, in microseconds.
        dense_p95_us: time that 95 % of the calls of the dense model do not exceed, in microseconds.
    """

    batch: Size
    threads: Size
    device: str
    repeats: Size
    median_us: float
    p95_us: float
    dense_median_us: float
    dense_p95_us: float

    @property
    def speedup(self) -> float:
        """How many times faster than the dense model the model is, by the medians; below 1 where slower."""
        return self.dense_median_us / self.median_us

    @property
    def place(self) -> str:
        """Where it was measured: "cpu, 1 thread"."""
        return f"{self.device}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Latency":
        """Rebuild the figures from `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or of another type, or a time is not above 0.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            got = sorted(values) if isinstance(values, Mapping) else values
            raise ValueError(f"a latency has the fields {sorted(names)}, got {got}")
        latency = read_fields(cls, values, "not a whole latency")
        for name in sorted(name for name in names if name.endswith("_us")):
            if not values[name] > 0:
                raise ValueError(f"{name} must be above 0 microseconds, got {values[name]}")
        return latency


def measure_latency(
    dense: nn.Module,
    models: Sequence[nn.Module],
    inputs: Tensor,
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    seconds: float = 1.0,
) -> list[tuple[Latency, ...]]:
    """Time models beside a dense one in this process.

    The models take turns, the dense one first in each round, so that a machine that slows down in the
    meantime slows all of them alike. A turn is one call that is not timed, which brings the model's weights
    back into the caches, and four calls that are. Rounds are repeated until `seconds` have passed, but at
    least 3 and at most 20 times (12 to 80 timed calls per model); a round that has started is finished. On a
    GPU a call ends when the device has done its work.

    Args:
        dense: dense model that the others are compared with, on the device of the inputs.
        models: models to time, on the device of the inputs; run in evaluation mode, like `dense`.
        inputs: inputs (rows, …) of one row or more, repeated where a batch needs more.
        batches: numbers of rows per call; each is measured separately.
        threads: number of CPU threads that an operator may use.
        seconds: time to spend on each batch size, in seconds.

    Returns:
        One entry per batch size for each model, in the order given.

    Raises:
        ValueError: there are no rows, or a batch, the threads or the seconds are out of range.
    """
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ValueError(f"latency needs one row of inputs or more, got the shape {tuple(inputs.shape)}")
    for name, value in (("threads", threads), *(("a batch", batch) for batch in batches)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, got {seconds}")
    device = inputs.device.type
    found: list[list[Latency]] = [[] for _ in models]
    everyone = [dense, *models]
    with ExitStack() as stack, torch.inference_mode():
        stack.enter_context(torch_threads(threads))
        for model in everyone:
            stack.enter_context(evaluation_mode(model))
        for batch in batches:
            rows = inputs.repeat(-(-batch // len(inputs)), *(1 for _ in inputs.shape[1:]))[:batch]
            times = _rounds(everyone, rows.contiguous(), seconds)
            (dense_median, dense_p95), *own = [_median_and_p95(taken) for taken in times]
            for entries, (median, p95) in zip(found, own, strict=True):
                entries.append(
                    Latency(batch, threads, device, len(times[0]), median, p95, dense_median, dense_p95)
                )
    return [tuple(entries) for entries in found]


def _rounds(models: Sequence[nn.Module], x: Tensor, seconds: float) -> list[list[float]]:
    """Time the models in turn; return the seconds of each call, in lists of equal length, one per model."""
    times: list[list[float]] = [[] for _ in models]
    for model in models:  # the first call of a model allocates and chooses kernels
        _call(model, x)
    end = time.perf_counter() + seconds
    for number in range(_MOST_ROUNDS):
        if number >= _FEWEST_ROUNDS and time.perf_counter() >= end:
            break
        for model, taken in zip(models, times, strict=True):
            _call(model, x)
            taken += [_call(model, x) for _ in range(_TIMED)]
    return times


def _call(model: nn.Module, x: Tensor) -> float:
    began = time.perf_counter()
    model(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - began


def _median_and_p95(times: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile of times in seconds, in microseconds."""
    quantiles = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.5, 0.95]).double())
    median, p95 = (1e6 * quantiles).tolist()
    return median, p95
