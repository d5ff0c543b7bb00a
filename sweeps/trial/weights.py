"""A member's weights on disk: the dense model, the bases of its spectra, its refitted and recovered models.

From these every operating point of the member is rebuilt as it was measured, without a decomposition and
without the calibration images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arsvd import MLP, OperatingPoint, Ranks, Spectra, Spectrum, compress, plan
from arsvd.evaluation import RankTuple
from arsvd.lowrank import LowRankLinear
from arsvd.serialization import read_tensors, write_tensors
from arsvd.training import Architecture, architecture_of

KIND = "arsvd member"
RECOVERED, REFIT = "recovered", "refit"
FITTED = (RECOVERED, REFIT)  # families whose weights are kept, since no spectrum gives them


@dataclass(frozen=True)
class MemberWeights:
    """What a member's file holds.

    Attributes:
        dense: the trained model.
        spectra: basis to spectra.
        fitted: family and ranks to the models whose weights no spectrum gives: refitted and recovered ones.
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
        if point.basis not in self.spectra:
            raise ValueError(f"the member has no spectra in the {point.basis} basis")
        spectra = self.spectra[point.basis]
        return compress(self.dense, spectra, plan(spectra, Ranks(point.ranks)))


def save_member(path: Path, weights: MemberWeights) -> None:
    """Write a member's weights by atomic replace.

    Basis vectors are kept in float32 and only up to break-even: higher ranks stay dense.
    """
    tensors: dict[str, Tensor] = {}
    spectra: dict[str, Any] = {}
    for basis, found in weights.spectra.items():
        spectra[basis] = {"other_params": found.other_params, "layers": []}
        for s in found:
            used = sum(1 for rank in range(1, s.full_rank + 1) if s.worthwhile(rank) is not None)
            tensors[f"{basis}.{s.name}.vectors"] = s.vectors[:, :used].float().cpu().contiguous()
            if s.dual_vectors is not None:
                tensors[f"{basis}.{s.name}.duals"] = s.dual_vectors[:, :used].float().cpu().contiguous()
            tensors[f"{basis}.{s.name}.mean"] = s.mean.cpu()
            tensors[f"{basis}.{s.name}.energy"] = s.energy
            spectra[basis]["layers"].append([s.name, s.out_features, s.in_features, s.has_bias])
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
    spectra = {
        basis: Spectra(
            basis,
            tuple(
                Spectrum(
                    name=name,
                    basis=basis,
                    out_features=out_features,
                    in_features=in_features,
                    has_bias=has_bias,
                    energy=tensors[f"{basis}.{name}.energy"],
                    vectors=tensors[f"{basis}.{name}.vectors"].double(),
                    mean=tensors[f"{basis}.{name}.mean"],
                    dual_vectors=_double(tensors.get(f"{basis}.{name}.duals")),
                )
                for name, out_features, in_features, has_bias in found["layers"]
            ),
            found["other_params"],
        )
        for basis, found in header["spectra"].items()
    }
    fitted: dict[tuple[str, RankTuple], MLP] = {}
    for index, (family, architecture) in enumerate(header["fitted"]):
        model = _fill(architecture, tensors, f"fitted.{index}")
        fitted[family, model_ranks(model)] = model
    return MemberWeights(_fill(header["dense"], tensors, "dense"), spectra, fitted)


def model_ranks(model: MLP) -> RankTuple:
    """Return a model's rank per layer; None where a layer is dense."""
    linear = [module for module in model if isinstance(module, nn.Linear | LowRankLinear)]
    return tuple(module.rank if isinstance(module, LowRankLinear) else None for module in linear)


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()


def _fill(architecture: Architecture, tensors: dict[str, Tensor], prefix: str) -> MLP:
    model = MLP([architecture[0][0], *(dims[-1] for dims in architecture)])
    for number, dims in enumerate(architecture, start=1):
        if len(dims) == 3:
            setattr(model, f"linear{number}", LowRankLinear(*dims))
    with torch.no_grad():
        model.load_state_dict(
            {
                name.removeprefix(f"{prefix}."): t
                for name, t in tensors.items()
                if name.startswith(f"{prefix}.")
            }
        )
    return model.eval()
