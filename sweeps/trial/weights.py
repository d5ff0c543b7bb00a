"""A member's weights on disk: the dense model, the bases of its spectra, its refitted and recovered models.

From these every operating point of the member is rebuilt as it was measured, without a decomposition and
without the calibration images.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arsvd import MLP, OperatingPoint, Ranks, Spectra, Spectrum, compress, plan
from arsvd.candidates import CANDIDATES
from arsvd.candidates.base import view_name
from arsvd.cost import Cost
from arsvd.evaluation.evaluator import RankTuple
from arsvd.files.serialization import read_tensors, write_tensors
from arsvd.formats import DENSE, FORMATS, LOW_RANK
from arsvd.json_fields import SINCE, Count, Size, read_fields
from arsvd.sites.linear import LowRankLinear
from arsvd.training import Architecture, architecture_of
from sweeps.ledger.records import RECOVERED

KIND = "arsvd member"
_Layer = tuple[str, Count, Count, bool]
# families whose weights are kept, since no spectrum gives them
FITTED = (RECOVERED, *(name for name, family in CANDIDATES.items() if family.keeps_weights))


@dataclass(frozen=True)
class _Spectra:
    """What a file's header says of one view; of one without a basis, the view's name is the basis."""

    other_params: Size
    layers: tuple[_Layer, ...]
    basis: str | None = field(default=None, metadata={SINCE: "0.3.0"})
    format: str = field(default=LOW_RANK, metadata={SINCE: "0.3.0"})


@dataclass(frozen=True)
class _Contents:
    """What a file's header says of its tensors."""

    dense: tuple[tuple[Count, ...], ...]
    spectra: dict[str, _Spectra]
    fitted: tuple[tuple[str, tuple[tuple[Count, ...], ...]], ...]


@dataclass(frozen=True)
class MemberWeights:
    """What a member's file holds.

    Attributes:
        dense: the trained model, on the CPU.
        spectra: spectra of the dense model, by view; see `arsvd.candidates.base.view_name`.
        fitted: family and ranks to the models whose weights no spectrum gives: refitted and recovered ones,
            on the CPU.
    """

    dense: MLP
    spectra: dict[str, Spectra]
    fitted: dict[tuple[str, RankTuple], MLP]

    def build(self, point: OperatingPoint) -> nn.Module:
        """Rebuild the model of one of the member's operating points.

        Raises:
            ValueError: the file does not hold what the point needs.
        """
        if point.family in FITTED:
            if (point.family, point.ranks) not in self.fitted:
                raise ValueError(f"the member has no {point.family} point with the ranks {point.ranks}")
            return self.fitted[point.family, point.ranks]
        if point.basis is None:
            return self.dense
        (format,) = {choice.format for choice in point.choices if choice.format != DENSE} or {LOW_RANK}
        view = view_name(point.basis, format)
        if view not in self.spectra:
            raise ValueError(f"the member has no spectra in the {view} basis")
        spectra = self.spectra[view]
        return compress(self.dense, spectra, plan(spectra, Ranks(point.ranks)))


def save_member(path: Path, weights: MemberWeights) -> None:
    """Write a member's weights by atomic replace.

    Basis vectors are kept in float32 and only up to break-even: higher ranks stay dense.
    """
    tensors: dict[str, Tensor] = {}
    spectra: dict[str, Any] = {}
    for view, found in weights.spectra.items():
        spectra[view] = {"other_params": found.other.numbers, "layers": []}
        if view != found.basis:
            spectra[view] |= {"basis": found.basis, "format": found.layers[0].format}
        for s in found:
            used = sum(1 for rank in range(1, s.largest + 1) if s.worthwhile(rank) is not None)
            tensors[f"{view}.{s.name}.vectors"] = s.vectors[:, :used].float().cpu().contiguous()
            if s.dual_vectors is not None:
                tensors[f"{view}.{s.name}.duals"] = s.dual_vectors[:, :used].float().cpu().contiguous()
            tensors[f"{view}.{s.name}.mean"] = s.mean.cpu()
            tensors[f"{view}.{s.name}.energy"] = s.energy
            spectra[view]["layers"].append([s.name, s.out_features, s.in_features, s.has_bias])
    models = {"dense": weights.dense}
    models |= {f"fitted.{index}": model for index, model in enumerate(weights.fitted.values())}
    for prefix, model in models.items():
        for name, tensor in model.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor.detach().cpu().contiguous()
    header = {
        "version": 1,
        "kind": KIND,
        "dense": architecture_of(weights.dense),
        "spectra": spectra,
        "fitted": [[family, architecture_of(model)] for (family, _), model in weights.fitted.items()],
    }
    write_tensors(path, tensors, header)


def load_member(path: Path) -> MemberWeights:
    """Read what `save_member` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something else.
    """
    header, tensors = read_tensors(path)
    if header.get("kind") != KIND:
        raise ValueError(f"{path} does not hold a member's weights")
    try:
        values = {name: header.get(name) for name in ("dense", "spectra", "fitted")}
        contents = read_fields(_Contents, values, "not a whole member")
        spectra = {
            view: Spectra(
                found.basis or view,
                tuple(_spectrum(view, found, layer, tensors) for layer in found.layers),
                Cost.of(found.other_params, 0),
            )
            for view, found in contents.spectra.items()
        }
        fitted: dict[tuple[str, RankTuple], MLP] = {}
        for index, (family, architecture) in enumerate(contents.fitted):
            model = _fill(architecture, tensors, f"fitted.{index}")
            fitted[family, model_ranks(model)] = model
        return MemberWeights(_fill(contents.dense, tensors, "dense"), spectra, fitted)
    except KeyError as error:
        raise ValueError(f"{path} lacks the tensor {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} does not hold a member's weights: {error}") from error


def model_ranks(model: MLP) -> RankTuple:
    """Return a model's rank per layer; None where a layer is dense."""
    layers = model.layers.values()
    return tuple(layer.rank if isinstance(layer, LowRankLinear) else None for layer in layers)


def _spectrum(view: str, found: _Spectra, layer: _Layer, tensors: dict[str, Tensor]) -> Spectrum:
    name, out_features, in_features, has_bias = layer
    start = f"{view}.{name}."
    vectors, duals = tensors[f"{start}vectors"].double(), tensors.get(f"{start}duals")
    energy, mean = tensors[f"{start}energy"], tensors[f"{start}mean"]
    if found.format not in FORMATS:
        raise ValueError(f"the {view} spectrum of {name} is in the unknown format {found.format!r:.80}")
    rank = min(out_features, in_features) if found.format == LOW_RANK else len(energy)
    whole = vectors.ndim == 2 and len(vectors) == out_features and vectors.shape[1] <= rank
    whole = whole and (duals is None or duals.shape == vectors.shape)
    if not whole or energy.shape != (rank,) or mean.shape != (out_features,):
        raise ValueError(f"the {view} spectrum of {name} has tensors of other shapes")
    return Spectrum(
        name=name,
        basis=found.basis or view,
        out_features=out_features,
        in_features=in_features,
        has_bias=has_bias,
        energy=energy.double(),
        vectors=vectors,
        mean=mean.double(),
        dual_vectors=None if duals is None else duals.double(),
        format=found.format,
    )


def _fill(architecture: Architecture, tensors: dict[str, Tensor], prefix: str) -> MLP:
    if not architecture or any(len(dims) not in (2, 3) for dims in architecture):
        raise ValueError(f"the {prefix} model has no layers of two or three dimensions each")
    if any(before[-1] != dims[0] for before, dims in itertools.pairwise(architecture)):
        raise ValueError(f"the layers of the {prefix} model do not follow one another")
    widths = [architecture[0][0], *(dims[-1] for dims in architecture)]
    own = {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
    # on no device: what the header claims takes no memory before the tensors are known to fit it
    with torch.device("meta"):
        model = MLP(widths)
        for number, dims in enumerate(architecture, start=1):
            if len(dims) == 3:
                setattr(model, f"linear{number}", LowRankLinear(*dims))
    try:
        model.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise ValueError(f"the {prefix} model does not fit its tensors: {error}") from error
    return model.eval()
