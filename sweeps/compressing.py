"""Compress a model, trained here or elsewhere, from a file into a file."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import arsvd
from arsvd import Plan, RankRule, Ranks, Spectra
from arsvd.endings import check_output, load_line
from arsvd.evaluation import Metrics
from arsvd.serialization import rebuildable
from sweeps.arrays import read_inputs, read_labelled


@dataclass(frozen=True)
class Target:
    """What a compression must reach; exactly one of these.

    Args:
        energy: the share of each layer's energy to keep, in (0, 1].
        max_params: the most numbers that the model may store.
        max_macs: the most multiplications an input row in the linear layers.
        max_drop: the most accuracy that may be lost on the labelled data, in [0, 1).

    Raises:
        ValueError: not exactly one target is given, or it is out of range.
    """

    energy: float | None = None
    max_params: int | None = None
    max_macs: int | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        given = [t for t in (self.energy, self.max_params, self.max_macs, self.max_drop) if t is not None]
        if len(given) != 1:
            raise ValueError("give one target: --energy or --max-params or --max-macs or --max-drop")
        if self.max_drop is not None and not 0.0 <= self.max_drop < 1.0:
            raise ValueError(
                f"--max-drop is a share of the rows in [0, 1), such as 0.005, got {self.max_drop}"
            )
        if self.max_drop is None:
            self.rule()

    def rule(self) -> RankRule:
        """Return the rank rule that reaches a target other than `max_drop`."""
        if self.energy is not None:
            return arsvd.Energy(self.energy)
        return arsvd.Budget(params=self.max_params, macs=self.max_macs)


@dataclass(frozen=True)
class Data:
    """What a model is compressed with: files, all optional.

    Attributes:
        calibration: an .npy file with inputs of the model, rows first.
        labelled: an .npz or .safetensors file with `inputs` and `labels`. Its inputs calibrate as well where
            there is no `calibration`; no label is looked at for that.
    """

    calibration: Path | None = None
    labelled: Path | None = None


@dataclass(frozen=True)
class Compressed:
    """What a compression did.

    Attributes:
        plan: the ranks that were carried out.
        dense: the model on the labelled data before; None without such data.
        small: the same after.
        load: a line of Python that loads the file.
    """

    plan: Plan
    dense: Metrics | None
    small: Metrics | None
    load: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, and the accuracies where they were measured, as JSON-able values."""
        values = self.plan.to_dict()
        if self.dense is not None and self.small is not None:
            values |= {"dense_accuracy": self.dense.accuracy, "accuracy": self.small.accuracy}
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
) -> Compressed:
    """Read a model, compress it, write it.

    Args:
        model: a file that `arsvd.read_model` reads.
        output: the file to write, .safetensors or .pt2.
        target: what to reach.
        data: inputs, with or without labels.
        basis: "weight", "activation" or "loss"; activation when None and there are inputs, else weight.
        multiple: of which every rank is one.
        factory: "module:function", which makes the module that a file of weights belongs to.

    Raises:
        ValueError: a file or an option cannot be used, or no plan reaches the target.
    """
    data = data or Data()
    if target.max_drop is not None and data.labelled is None:
        raise ValueError("--max-drop needs --labelled: without labels no accuracy can be measured")
    check_output(output, inputs=(model, data.calibration, data.labelled))
    network = arsvd.read_model(model, None if factory is None else find_factory(factory))
    dtype = next(iter(arsvd.linear_layers(network).values())).weight.dtype
    labelled = None
    if data.labelled is not None:
        inputs, labels = read_labelled(data.labelled)
        labelled = inputs.to(dtype), labels
        _check_classifier(network, inputs.to(dtype))
    calibration = None if data.calibration is None else read_inputs(data.calibration).to(dtype)
    example = calibration
    if calibration is None and labelled is not None:
        example = labelled[0]
        calibration = None if basis == "weight" else example
    dense = None if labelled is None else arsvd.evaluate(network, *labelled)
    spectra = arsvd.spectra(network, calibration=calibration, basis=basis)
    if target.max_drop is None or labelled is None or dense is None:
        plan = arsvd.plan(spectra, target.rule(), multiple)
    else:
        plan = _smallest(network, spectra, labelled, dense.accuracy - target.max_drop, multiple)
    small = arsvd.compress(network, spectra, plan)
    measured = None if labelled is None else arsvd.evaluate(small, *labelled)
    arsvd.write_model(small, output, None if example is None else example[:8], {"plan": plan.to_dict()})
    return Compressed(plan, dense, measured, load_line(output, into=not rebuildable(small)))


def _smallest(
    network: nn.Module, spectra: Spectra, labelled: tuple[Tensor, Tensor], accuracy: float, multiple: int
) -> Plan:
    """Take the point of the front with the fewest parameters that is accurate enough; the dense one is."""
    points = arsvd.front(network, spectra, labelled, multiple=multiple)
    # accuracies are shares of the rows: the tolerance is for the subtraction that made the bound
    point = min((p for p in points if p.accuracy >= accuracy - 1e-9), key=lambda p: p.params)
    plan = arsvd.plan(spectra, Ranks(point.ranks, family=point.family))
    return replace(plan, threshold=point.threshold)


def _check_classifier(network: nn.Module, inputs: Tensor) -> None:
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


def find_factory(name: str) -> Callable[[], nn.Module]:
    """Find a function by its name on the command line; modules of the working directory count.

    It is for names that the user types, never for names from a file: importing a module runs it.

    Args:
        name: "module:function".

    Returns:
        The function; what it raises becomes a ValueError.

    Raises:
        ValueError: the name has another form, or there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"a factory is named module:function, got {name!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), function_name, None)
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"the module of the factory {name!r} cannot be imported: {error!r}") from error
    if not callable(found):
        raise ValueError(f"the module {module_name!r} has no function {function_name!r}")

    def make() -> nn.Module:
        try:
            made = found()
        except Exception as error:
            raise ValueError(f"the factory {name!r} failed: {error!r}") from error
        if not isinstance(made, nn.Module):
            raise ValueError(f"the factory {name!r} must make an nn.Module, it made a {type(made).__name__}")
        return made

    return make
