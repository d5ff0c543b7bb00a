"""Compress a model, trained here or elsewhere, from a file into a file."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import arsvd
from arsvd import Plan, RankRule
from arsvd.evaluation.evaluator import Metrics
from arsvd.files.endings import check_output, load_line
from arsvd.files.serialization import rebuildable
from arsvd.sites.finding import site_of
from arsvd.statistics import BASES
from sweeps.foreign.arrays import fit_inputs, input_dtype, read_inputs, read_labelled
from sweeps.foreign.factories import find_factory
from sweeps.foreign.within_drop import Confirmation, halves, smallest_within
from sweeps.ledger.storage import StorageError

_EXAMPLE_ROWS = 8
_IN_PYTHON = re.compile(r"[Pp]ass layers=\[\.\.\.\] without (?:it|them)")


@dataclass(frozen=True)
class Target:
    """The goal of a compression; exactly one of the first four is given.

    Args:
        energy: share of each layer's energy to keep, in (0, 1].
        max_params: largest number of parameters that the model may store.
        max_macs: largest number of multiplications per input row in the linear layers.
        max_drop: largest loss of accuracy on data like the labelled data, in [0, 1).
        confidence: one-sided confidence that no more than `max_drop` is lost, in [0.5, 1).

    Raises:
        ValueError: not exactly one target is given, or it is out of range.
    """

    energy: float | None = None
    max_params: int | None = None
    max_macs: int | None = None
    max_drop: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        given = [t for t in (self.energy, self.max_params, self.max_macs, self.max_drop) if t is not None]
        if len(given) != 1:
            raise ValueError("give one target: --energy or --max-params or --max-macs or --max-drop")
        if self.max_drop is not None and not 0.0 <= self.max_drop < 1.0:
            raise ValueError(
                f"--max-drop is a share of the rows in [0, 1), such as 0.005, got {self.max_drop}"
            )
        if not 0.5 <= self.confidence < 1.0:
            raise ValueError(f"--confidence is in [0.5, 1), such as 0.95, got {self.confidence}")
        if self.max_drop is None:
            self.rule()

    def rule(self) -> RankRule:
        """Return the rank rule that reaches a target other than `max_drop`."""
        if self.energy is not None:
            return arsvd.Energy(self.energy)
        return arsvd.Budget(params=self.max_params, macs=self.max_macs)


@dataclass(frozen=True)
class Data:
    """The files that a compression uses, all optional.

    Attributes:
        calibration: .npy file with inputs of the model, rows first.
        labelled: .npz or .safetensors file with `inputs` and `labels`. Its inputs also calibrate where there
            is no `calibration`; labels are not used for that.
        scale: number that the inputs of both are divided by; None where it follows from their dtype and
            values.
    """

    calibration: Path | None = None
    labelled: Path | None = None
    scale: float | None = None


@dataclass(frozen=True)
class Compressed:
    """The result of a compression.

    Attributes:
        plan: plan of the ranks that were applied.
        dense: results of the original model on the labelled data; None without such data.
        small: results of the compressed model on the labelled data; None without such data.
        load: line of Python that loads the file.
        bytes_before: size of the file that was read, in bytes.
        bytes_after: size of the file that was written, in bytes.
        notes: lines about what was not taken literally: inputs, names of weights, layers left dense.
        confirmation: results of the choice on rows that had no part in it; None without `max_drop`.
    """

    plan: Plan
    dense: Metrics | None
    small: Metrics | None
    load: str
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...]
    confirmation: Confirmation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, and the accuracies where they were measured, as JSON-able values."""
        sizes = {"bytes_before": self.bytes_before, "bytes_after": self.bytes_after}
        values = {**self.plan.to_dict(), **sizes, "notes": list(self.notes)}
        if self.dense is not None and self.small is not None:
            values |= {"dense_accuracy": self.dense.accuracy, "accuracy": self.small.accuracy}
        if self.confirmation is not None:
            values["confirmation"] = asdict(self.confirmation)
        return values


def compress_file(
    model: Path,
    output: Path,
    target: Target,
    data: Data | None = None,
    *,
    basis: str | None = None,
    multiple: int = 1,
    factory: str | None = None,
    skip: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> Compressed:
    """Read a model, compress it, write it.

    Args:
        model: path of a file that `arsvd.read_model` reads.
        output: path of the file to write, .safetensors or .pt2.
        target: goal of the compression.
        data: inputs, with or without labels.
        basis: basis "weight", "activation" or "loss"; None for activation where there are inputs, else
            weight.
        multiple: number that divides every rank.
        factory: text "module:function", which names a function that builds the module for a file of weights.
        skip: names of linear layers to leave dense.
        say: function that receives a few words about each step when it begins.
        progress: function that receives the number of steps done and of all steps, for steps that are
            counted.

    Raises:
        ValueError: a file or an option cannot be used, or no plan reaches the target.
        StorageError: the output cannot be written.
    """
    data = data or Data()
    if target.max_drop is not None and data.labelled is None:
        raise ValueError("--max-drop needs --labelled: without labels no accuracy can be measured")
    check_output(output, inputs=(model, data.calibration, data.labelled))
    notes: list[str] = []
    before = model.stat().st_size
    say("reading the model")
    network = arsvd.read_model(model, None if factory is None else find_factory(factory), notes.append)
    layers = _chosen_layers(network, skip)
    labelled = None
    if data.labelled is not None:
        inputs, labels = read_labelled(data.labelled)
        labelled = _fitted(network, inputs, data.labelled, data.scale, notes), labels
        _check_classifier(network, *labelled, data.labelled)
    calibration = None
    if data.calibration is not None:
        values = read_inputs(data.calibration)
        calibration = _fitted(network, values, data.calibration, data.scale, notes)
    choosing, confirming = (None, None) if labelled is None or target.max_drop is None else halves(labelled)
    given = calibration
    if calibration is None and labelled is not None:
        # rows that confirm a choice have no part in making it
        given = (choosing or labelled)[0]
        calibration = None if basis is not None and not BASES[basis].calibrated else given
    say("factorising its layers")
    dense = None if labelled is None else arsvd.evaluate(network, *labelled)
    try:
        spectra = arsvd.spectra(network, calibration, layers, basis=basis, progress=progress, example=given)
    except ValueError as error:  # advice for Python does not apply on the command line
        raise ValueError(_IN_PYTHON.sub("give --skip NAME for each", str(error))) from error
    confirmation = None
    if target.max_drop is None or choosing is None or confirming is None:
        plan = arsvd.plan(spectra, target.rule(), multiple)
    else:
        say("measuring how small it can be")
        limits = target.max_drop, target.confidence
        plan, confirmation = smallest_within(
            network, spectra, choosing, confirming, *limits, multiple, progress
        )
    say("writing")
    small = arsvd.compress(network, spectra, plan, example=given)
    measured = None if labelled is None else arsvd.evaluate(small, *labelled)
    example = None if given is None else _example(given)
    after = written(small, output, example, {"plan": plan.to_dict()})
    line = load_line(output, into=not rebuildable(small))
    return Compressed(plan, dense, measured, line, before, after, tuple(notes), confirmation)


def written(model: nn.Module, path: Path, example: Tensor | None, metadata: dict[str, Any]) -> int:
    """Write a model by `arsvd.write_model`, and return the size of its file in bytes.

    Raises:
        ValueError: the model cannot be written in this form.
        StorageError: the file cannot be written, such as on a full disk.
    """
    try:
        arsvd.write_model(model, path, example, metadata)
        return path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _fitted(network: nn.Module, inputs: Tensor, path: Path, scale: float | None, notes: list[str]) -> Tensor:
    fitted, words = fit_inputs(inputs, input_dtype(network, inputs), path, scale)
    notes.append(words)
    return fitted


def _example(inputs: Tensor) -> Tensor:
    """Make inputs of the same shape and dtype without any of the user's data: they may stay in the file."""
    shape = (_EXAMPLE_ROWS, *inputs.shape[1:])
    if not inputs.is_floating_point():
        return torch.zeros(shape, dtype=inputs.dtype)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(inputs.dtype)


def _chosen_layers(network: nn.Module, skip: Sequence[str]) -> list[str] | None:
    """Return the names of the layers to factorise; None for all."""
    names = [name for name, module in network.named_modules() if site_of(module) is not None]
    if unknown := [name for name in skip if name not in names]:
        raise ValueError(f"--skip names no layer of the model: {', '.join(unknown)}; it has {names}")
    return [name for name in names if name not in skip] if skip else None


def _check_classifier(network: nn.Module, inputs: Tensor, labels: Tensor, path: Path) -> None:
    if len(inputs) < 2:
        raise ValueError(f"labelled data needs at least 2 rows, got {len(inputs)}")
    try:
        with torch.no_grad():
            logits = network(inputs[:2])
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"the model does not take labelled inputs of shape {tuple(inputs.shape)}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"labelled data needs a model that gives logits (rows, classes), got {shape}")
    lowest, highest, last = int(labels.min()), int(labels.max()), logits.shape[1] - 1
    if lowest < 0 or highest > last:
        hint = "; leave rows without a class out" if lowest < 0 else ""
        hint = "; classes count from 0: subtract 1" if (lowest, highest) == (1, last + 1) else hint
        raise ValueError(f"labels must be in 0 … {last}, got {lowest} … {highest} in {path}{hint}")
