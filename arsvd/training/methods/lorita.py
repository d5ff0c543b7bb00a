"""LoRITa: weights trained as products, whose spectra decay fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import MOST_FACTORS, Whole
from arsvd.training.methods.base import TrainingMethod

if TYPE_CHECKING:
    from arsvd.training.architecture import Architecture


class LoRITa(TrainingMethod):
    """Trains each weight as a product of linear factors, which is multiplied out after training.

    Inner dimensions are min(in, out), so the product can have full rank. With weight decay on the factors,
    the product feels a Schatten quasi-norm.

    Source:
        arXiv 2405.03089.
    """

    name = "lorita"
    options = (
        Option(
            "model.factors",
            Whole(1, most=MOST_FACTORS),
            "linear factors that each weight is trained as (LoRITa); 1 is plain",
            default=1,
            absent=1,
            forms=("choice", "int"),
            alike=True,
        ),
    )

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return two factors and three."""
        return ({"model.factors": 2}, {"model.factors": 3})

    @classmethod
    def architecture(cls, architecture: Architecture, settings: Mapping[str, Any]) -> Architecture:
        """Put the inner dimensions into each dense layer."""
        inner = settings.get("model.factors", 1) - 1
        return tuple((a, *([min(a, b)] * inner), b) for a, b in architecture)
