"""The best allocation of a budget of parameters or multiplications over the layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.rules.base import RankRule, RegisteredRule, check_multiple

if TYPE_CHECKING:
    import numpy as np

    from arsvd.statistics.spectrum import Spectra, Spectrum

    # sizes and errors at ascending ranks, the last one the dense layer, and the corners of their lower hull
    Curve = tuple[np.ndarray, np.ndarray, list[int]]


@dataclass(frozen=True)
class Budget(RegisteredRule):
    """Ranks with a small total error among those that fit a size.

    Minimises sum_l w_l err_l(r_l) with err_l(r) = 1 - kept energy (in the loss basis the energy dropped,
    since layers are comparable there), subject to a limit on the model's size. The steps between the corners
    of each layer's lower convex hull are taken in the order of error saved per number stored: that is the
    whole path of Lagrangian solutions r_l(lambda), without a bisection. What then remains of the budget is
    spent greedily: on the corners the result is the optimum, between them it is close to it.

    Exactly one of the limits `params`, `macs` and `bits` is given.

    Args:
        params: largest count of numbers that the model may store.
        macs: largest number of multiplications for one input row.
        bits: largest number of bits that the model may store.
        weights: importance of each layer's error, (layers,); equal when None.
        family: name in tables.
        multiple: whole number of which every chosen rank is a multiple, so that the budget holds without
            rounding.

    Raises:
        ValueError: not exactly one of params, macs and bits is given, it is below 1, or a weight is negative.

    Source:
        Everett 1963 and Shoham and Gersho 1988 (Lagrangian allocation over convex hulls).
    """

    params: int | None = None
    macs: int | None = None
    weights: tuple[float, ...] | None = None
    family: str = "budget"
    multiple: int = 1
    bits: int | None = None
    threshold: ClassVar[None] = None

    def __post_init__(self) -> None:
        if sum(limit is not None for limit in (self.params, self.macs, self.bits)) != 1:
            given = f"params={self.params}, macs={self.macs}, bits={self.bits}"
            raise ValueError(f"a budget is either params or macs or bits, got {given}")
        if self._limit[0] < 1:
            raise ValueError(f"a budget must be at least 1, got {self._limit[0]}")
        if self.weights is not None and not all(weight >= 0 for weight in self.weights):
            raise ValueError(f"layer weights must not be negative, got {self.weights}")

    @classmethod
    def examples(cls, spectra: Spectra) -> Sequence[RankRule]:
        """Make budgets of parameters from the smallest model to beyond the dense one."""
        least = spectra.cost([s.worthwhile(1) for s in spectra])
        low, high = least.numbers, spectra.cost(spectra.dense).numbers
        return [cls(params=limit) for limit in sorted({*range(low, high, 7), high, 10 * high})]

    @property
    def _limit(self) -> tuple[int, str, str]:
        """The limit, the field of `Cost` that it limits, and the name of its unit in messages."""
        if self.params is not None:
            return self.params, "numbers", "parameters"
        return (
            (self.bits, "bits", "bits")
            if self.bits is not None
            else (self.macs or 0, "macs", "multiplications")
        )

    def ranks(self, spectra: Spectra) -> tuple[int | None, ...]:
        """Choose one rank per layer.

        Raises:
            ValueError: the budget is below the model with the smallest ranks everywhere, there is not one
                weight per layer, or no layer has a rank that is a multiple.
        """
        check_multiple(spectra, self.multiple)
        limit, count, unit = self._limit
        curves = _curves(spectra, self.weights, count, self.multiple)
        spare = limit - getattr(spectra.other, count)
        smallest = sum(int(sizes[0]) for sizes, *_ in curves)
        if smallest > spare:
            raise ValueError(
                f"a budget of {limit} {unit} cannot be met: "
                f"the smallest that is reachable has {smallest + limit - spare}"
            )
        chosen = _fill(curves, _follow(curves, spare - smallest), spare)
        return _as_ranks(chosen, curves, self.multiple)


def _curves(spectra: Spectra, weights: Sequence[float] | None, count: str, multiple: int) -> list[Curve]:
    """List each layer's sizes and weighted errors up to break-even; the last entry is the dense layer."""
    if weights is not None and len(weights) != len(spectra):
        raise ValueError(f"{len(weights)} weights were given for {len(spectra)} layers")
    curves = []
    overall = sum(float(spectrum.energy.sum()) for spectrum in spectra)
    for layer, spectrum in enumerate(spectra):
        sizes, dropped, hull = _curve(spectrum, count, multiple)
        # shares of each layer's own energy, unless energies of different layers have the same unit
        total = overall if spectra.comparable else float(spectrum.energy.sum())
        weight = 1.0 if weights is None else weights[layer]
        curves.append((sizes, weight * dropped / (total if total > 0 else 1.0), hull))
    return curves


def _curve(spectrum: Spectrum, count: str, multiple: int) -> Curve:
    """List a layer's sizes and dropped energies, and the corners of their hull: once for all budgets.

    Neither the budget nor the layer's weight changes them: a weight scales the errors and moves no corner.
    """
    import numpy as np

    key = "budget", count, multiple
    if key not in spectrum.memory:

        def size(rank: int | None) -> int:
            return int(getattr(spectrum.cost(rank), count))

        # stored bits and the limited count must both fall, or a truncated layer could exceed the dense one
        ranks = range(multiple, spectrum.largest + 1, multiple)
        useful = [r for r in ranks if spectrum.worthwhile(r) is not None and size(r) < size(None)]
        kept = np.cumsum(spectrum.energy.numpy())
        dropped = np.array([*(float(kept[-1] - kept[r - 1]) for r in useful), 0.0])
        sizes = np.array([size(r) for r in [*useful, None]])
        spectrum.memory[key] = sizes, dropped, _hull(sizes, dropped)
    found: Curve = spectrum.memory[key]
    return found


def _hull(sizes: np.ndarray, errors: np.ndarray) -> list[int]:
    """Return the indices of the lower convex hull of error over size, from the smallest size on."""
    corners: list[int] = []
    for index in range(len(sizes)):
        # drop a corner that lies on or above the line from the one before it to the new point
        while len(corners) >= 2:
            a, b = corners[-2], corners[-1]
            if (errors[b] - errors[a]) * (sizes[index] - sizes[a]) >= (errors[index] - errors[a]) * (
                sizes[b] - sizes[a]
            ):
                corners.pop()
            else:
                break
        corners.append(index)
    return corners


def _follow(curves: list[Curve], spare: int) -> list[int]:
    """Take hull steps by slope until the next one does not fit; return an index into each curve."""
    steps = []
    for layer, (sizes, errors, hull) in enumerate(curves):
        for a, b in itertools.pairwise(hull):
            cost = int(sizes[b] - sizes[a])
            steps.append(((errors[b] - errors[a]) / cost, layer, b, cost))
    chosen = [0] * len(curves)
    for slope, layer, target, cost in sorted(steps):
        # slopes of one layer ascend along its hull, so its steps come in order; stop at the first that
        # does not fit, as the Lagrangian does, and leave the remainder to _fill
        if slope >= 0 or cost > spare:
            break
        chosen[layer] = target
        spare -= cost
    return chosen


def _fill(curves: list[Curve], chosen: list[int], limit: int) -> list[int]:
    """Spend what is left: raise the rank that saves the most error per number stored while one fits."""
    spare = limit - sum(int(sizes[i]) for (sizes, *_), i in zip(curves, chosen, strict=True))
    while True:
        best: tuple[float, int, int, int] | None = None
        for layer, (sizes, errors, _) in enumerate(curves):
            here = chosen[layer]
            costs = sizes[here + 1 :] - sizes[here]
            gains = errors[here] - errors[here + 1 :]
            fits = ((costs <= spare) & (gains > 0)).nonzero()[0]
            if len(fits):
                rates = gains[fits] / costs[fits]
                step = int(fits[rates.argmax()])
                candidate = (float(rates.max()), layer, here + 1 + step, int(costs[step]))
                best = candidate if best is None or candidate > best else best
        if best is None:
            return chosen
        _, layer, target, cost = best
        chosen[layer] = target
        spare -= cost


def _as_ranks(chosen: list[int], curves: list[Curve], multiple: int) -> tuple[int | None, ...]:
    return tuple(
        None if index == len(sizes) - 1 else (index + 1) * multiple
        for index, (sizes, *_) in zip(chosen, curves, strict=True)
    )
