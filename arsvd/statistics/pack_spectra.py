"""Factorise several dense MLPs at once: one set of batched operations, whatever their number.

The same spectra as `arsvd.spectra` gives, model by model, up to rounding. On a GPU, where small matrices
leave most of the device idle and every operation has to be launched, that is most of the time saved.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.batches import calibration_batches
from arsvd.coverage import chain_macs
from arsvd.layers import linear_layers
from arsvd.modes import inner
from arsvd.statistics import BASES
from arsvd.statistics.curvature import PROBES, TEMPERATURE, LabelDraws, damped
from arsvd.statistics.spectrum import Spectra, Spectrum, chosen_basis, joined, output_spectra, weight_spectra
from arsvd.statistics.stacking import dense_chain, kind_of, stacked_layers

# Most elements of one sum of z z^T over the layers of the members at hand: 512 MiB in float64, of which the
# loss basis holds about six at a time. 200 members of 784-512-256-10 fit.
MATRIX_ELEMENTS = 2**26
# Most elements of one layer's outputs, in float64 too: 256 MiB. Larger batches are walked in parts.
OUTPUT_ELEMENTS = 2**25

Chain = dict[str, nn.Linear]


@torch.no_grad()
def pack_spectra(
    models: Sequence[nn.Module],
    calibration: Tensor | Iterable[Tensor] | None = None,
    basis: str | None = None,
    batch_size: int = 2048,
) -> list[Spectra]:
    """Factorise every layer of several MLPs; `arsvd.spectra` says what each one's spectra are.

    Args:
        models: dense `arsvd.MLP`s of one depth, one number of inputs and classes, one dtype (float32 or
            float64) and one device; their hidden widths may differ. They are not changed.
        calibration: inputs of all models, (rows, …), or batches of them; at least 2 rows. They choose the
            activation basis, if not told otherwise. None chooses the weight basis.
        basis: "weight", "activation" or "loss".
        batch_size: rows walked at a time when `calibration` is one tensor.

    Returns:
        One entry a model.

    Raises:
        ValueError: models that do not go together or are no dense MLPs; weights or outputs that are not
            finite; fewer than 2 rows; inputs that the models do not take; a basis that is unknown or does not
            go with the calibration.
        TypeError: a calibration batch is not a tensor.
    """
    basis = chosen_basis(basis, calibration)
    chains = _chains(models)
    if not chains:
        return []
    batches = [] if calibration is None else list(calibration_batches(calibration, batch_size))
    widths = [
        max(sizes) for sizes in zip(*([m.out_features for m in c.values()] for c in chains), strict=True)
    ]
    members = max(1, MATRIX_ELEMENTS // sum(width**2 for width in widths))
    found: list[list[Spectrum]] = []
    for start in range(0, len(chains), members):
        found += _factorised(chains[start : start + members], batches, basis)
    return [
        joined(model, basis, layers, macs=chain_macs(chain, chain))
        for model, chain, layers in zip(models, chains, found, strict=True)
    ]


def _chains(models: Sequence[nn.Module]) -> list[Chain]:
    chains = []
    for position, model in enumerate(models):
        chain = dense_chain(model)
        if chain is None:
            raise ValueError(
                f"model {position} is no dense MLP in float32 or float64; arsvd.spectra factorises it alone"
            )
        if list(linear_layers(inner(model))) != list(chain):
            raise ValueError(
                f"model {position} has layers that stay dense, such as tied ones; "
                f"arsvd.spectra factorises it alone"
            )
        chains.append(chain)
    kinds = {kind_of(chain) for chain in chains}
    if len(kinds) > 1:
        raise ValueError(
            "models that are factorised together agree in layers, inputs, classes, dtype and device, "
            f"got {sorted(map(str, kinds))}"
        )
    return chains


def _factorised(chains: Sequence[Chain], batches: Sequence[Tensor], basis: str) -> list[list[Spectrum]]:
    """Factorise members that fit into memory together; returns their layers' spectra, member by member."""
    stack = stacked_layers(chains)
    _check_finite(chains, stack)
    if BASES[basis].calibrated:
        sums = _Sums(stack, fisher=basis == "loss")
        for batch in batches:
            sums.add(batch)
    found: list[dict[int, Spectrum]] = [{} for _ in chains]
    for position, layers in enumerate(zip(*(chain.items() for chain in chains), strict=True)):
        for (out, _), members in _by_shape([layer for _, layer in layers]).items():
            group = [layers[member] for member in members]
            if not BASES[basis].calibrated:
                results = weight_spectra(group)
            else:
                total, second, fisher = sums.of(position, members, out)
                metrics = damped(fisher) if basis == "loss" else None
                results = output_spectra(group, basis, sums.rows, total, second, metrics)
            for member, spectrum in zip(members, results, strict=True):
                found[member][position] = spectrum
    return [[layers[position] for position in range(len(stack))] for layers in found]


def _check_finite(chains: Sequence[Chain], stack: Sequence[tuple[Tensor, Tensor]]) -> None:
    finite = [torch.isfinite(tensor).flatten(1).all(1) for pair in stack for tensor in pair]
    kinds = [(name, kind) for name in chains[0] for kind in ("weights", "biases")]
    for (name, kind), members in zip(kinds, torch.stack(finite).tolist(), strict=True):
        if not all(members):
            raise ValueError(
                f"layer {name!r} of model {members.index(False)} holds NaN or infinite {kind}; "
                "it cannot be factorised"
            )


def _by_shape(layers: Sequence[nn.Linear]) -> dict[tuple[int, int], list[int]]:
    """Group members by the true shape of their layer: padding would add zeros to the spectra."""
    groups: dict[tuple[int, int], list[int]] = {}
    for member, layer in enumerate(layers):
        groups.setdefault((layer.out_features, layer.in_features), []).append(member)
    return groups


class _Sums:
    """Sums over calibration rows, of all members.

    Args:
        stack: per layer the weights (members, out, in) and biases (members, 1, out).
        fisher: whether the Fisher information of the outputs is summed as well.

    Attributes:
        rows: how many were added.
    """

    def __init__(self, stack: Sequence[tuple[Tensor, Tensor]], fisher: bool) -> None:
        self.rows = 0
        self._stack = stack
        self._draws = LabelDraws(0) if fisher else None
        shapes = [weight.shape[:2] for weight, _ in stack]
        zeros = stack[0][0].new_zeros((), dtype=torch.float64)
        self._totals = [zeros.new_zeros(members, out) for members, out in shapes]
        self._seconds = [zeros.new_zeros(members, out, out) for members, out in shapes]
        self._fishers = [zeros.new_zeros(members, out, out) for members, out in shapes if fisher]

    def add(self, batch: Tensor) -> None:
        """Run the members on a batch of inputs (rows, …)."""
        weight, x = self._stack[0][0], batch.flatten(1)
        if x.shape[1] != weight.shape[2] or x.dtype != weight.dtype:
            raise ValueError(
                f"the models do not take calibration inputs of shape {tuple(batch.shape)} and {batch.dtype}: "
                f"they need {weight.shape[2]} features and {weight.dtype}"
            )
        widest = len(weight) * max(weight.shape[1] for weight, _ in self._stack)
        rows = max(1, OUTPUT_ELEMENTS // (widest * (1 if self._draws is None else PROBES)))
        for part in x.split(rows):
            self._add(part)

    def _add(self, x: Tensor) -> None:
        self.rows += len(x)
        inputs, active = x.expand(len(self._stack[0][0]), -1, -1), []
        for (weight, bias), total, second in zip(self._stack, self._totals, self._seconds, strict=True):
            outputs = torch.bmm(inputs, weight.mT)
            z = outputs.double()
            total += z.sum(1)
            second.baddbmm_(z.mT, z)
            outputs += bias
            active.append(outputs > 0)
            inputs = F.relu(outputs)
        if self._draws is not None:
            self._add_gradients(outputs, active, self._draws)

    def _add_gradients(self, logits: Tensor, active: list[Tensor], draws: LabelDraws) -> None:
        """Add g g^T of every layer: the gradients of `output_fisher` by hand, its probes as further rows."""
        p = F.softmax(logits.float() / TEMPERATURE, dim=-1)
        labels = draws.labels(p)  # (members, rows, PROBES)
        # of -log p(y) with respect to the logits: (p - 1_y) / T
        gradient = p[:, :, None].repeat(1, 1, PROBES, 1)
        gradient.scatter_add_(-1, labels[..., None], -torch.ones_like(gradient[..., :1]))
        gradient = (gradient / TEMPERATURE).to(logits.dtype)
        for position in reversed(range(len(self._stack))):
            g = gradient.flatten(1, 2).double()
            self._fishers[position].baddbmm_(g.mT, g)
            if position > 0:
                below = torch.bmm(gradient.flatten(1, 2), self._stack[position][0])
                gradient = below.unflatten(1, gradient.shape[1:3]) * active[position - 1][:, :, None]

    def of(self, position: int, members: Sequence[int], out: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return one layer's sums for some members, without padding: z, z z^T, and the mean of g g^T."""
        total, second = self._totals[position], self._seconds[position]
        fisher = self._fishers[position] / max(1, self.rows * PROBES) if self._fishers else second
        if len(members) < len(total):
            chosen = torch.tensor(members, device=total.device)
            total, second, fisher = (t.index_select(0, chosen) for t in (total, second, fisher))
        return total[:, :out], second[:, :out, :out], fisher[:, :out, :out]
