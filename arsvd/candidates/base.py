"""What every family of candidate points promises."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.formats import LOW_RANK

if TYPE_CHECKING:
    from torch import Tensor, nn

    from arsvd.evaluation.evaluator import Evaluator, OperatingPoint
    from arsvd.evaluation.lockstep import Steps
    from arsvd.planning import Plan


def view_name(basis: str, format: str) -> str:
    """Name the spectra of a model in a basis and a format: by the basis alone for low ranks."""
    return basis if format == LOW_RANK else f"{basis} {format}"


@dataclass(frozen=True)
class Context:
    """One trained model, and what a family may look at.

    Attributes:
        model: the model as it was trained.
        evaluators: evaluators of the model on validation data, by view; see `view_name`.
        views: views whose points are wanted.
        main_view: view that costly families work with.
        rules: names of the rank rules that are wanted.
        thresholds: thresholds of these rules, in (0, 1].
        max_drop: the drop of validation accuracy that the best point may have.
        calibration: function that returns training inputs (rows, …).
    """

    model: "nn.Module"
    evaluators: "Mapping[str, Evaluator]"
    views: tuple[str, ...]
    main_view: str
    rules: tuple[str, ...]
    thresholds: tuple[float, ...]
    max_drop: float
    calibration: "Callable[[], Tensor]"

    @property
    def main(self) -> "Evaluator":
        """The evaluator that costly families work with."""
        return self.evaluators[self.main_view]


class Candidates:
    """A family of candidate points.

    Its points come from what it plans beforehand, from steps that look at what was measured, and from models
    of its own; each is nothing where a family does not say otherwise.

    Attributes:
        keeps_weights: True if its models have weights that no spectrum gives, and are kept with a member.
    """

    keeps_weights: ClassVar[bool] = False

    def plans(self, context: Context, view: str) -> "list[Plan]":
        """Plan what the spectra of a view alone decide.

        Args:
            context: the model.
            view: one of the wanted views.
        """
        return []

    def steps(
        self, context: Context, dense: "OperatingPoint", points: "Sequence[OperatingPoint]"
    ) -> "Steps[list[OperatingPoint]]":
        """Find points in steps that say what they are about to measure; see `arsvd.evaluation.lockstep`.

        Args:
            context: the model.
            dense: the model's own point.
            points: points of the families before it.
        """
        yield from ()
        return []

    def models(
        self, context: Context, dense: "OperatingPoint", points: "Sequence[OperatingPoint]"
    ) -> "dict[OperatingPoint, nn.Module]":
        """Make models of its own, and measure them on the validation data of the evaluators.

        Args:
            context: the model.
            dense: the model's own point.
            points: points of all families that make no models.

        Returns:
            Each model by its point.
        """
        return {}
