"""From trained members to records: factorise, measure, recover, several members at a time."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from arsvd import MLP, OperatingPoint, Spectra
from arsvd.evaluation.lockstep import together
from sweeps.config import MemberConfig
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.records import FINISHED, MemberRecord
from sweeps.trial.failures import cause_of, check_device, failed_record
from sweeps.trial.points import Measured, factorise, factorise_together, measuring, with_models
from sweeps.trial.recovery import Trained, recover
from sweeps.trial.weights import MemberWeights
from sweeps.trial.workbench import Analysis, Workbench

log = logging.getLogger(__name__)

# Members of a pack that are measured together: enough to keep a GPU busy, few enough that their spectra fit
# (64 members of 784-512-256-10 in three bases: 0.7 GB) and that the first are on file long before the last.
TOGETHER = 64

Outcome = tuple[MemberRecord, MemberWeights | None]


def group_size(device: torch.device) -> int:
    """Tell how many members of a pack are measured together.

    On a GPU most of a member's time goes into launching small operations, and together each operation is
    launched once for all members. A CPU has little of that to save, and its caches work better with one
    member's matrices at a time: measuring 8 members of 784-512-256-10 together takes twice as long there.
    """
    return TOGETHER if device.type == "cuda" else 1


@dataclass
class Member:
    """A trained member on its way to a record; each step adds its result for the next one.

    Attributes:
        number: number of its Optuna trial.
        config: configuration of its training.
        key: key under which its record is filed.
        curves: curves of its training.
        cause: reason of its failure; None while all is well.
        seconds: duration of each step, by its name.
        model: trained model, on the device.
        spectra: spectra by basis.
        measured: operating points of the member.
        recovered: fine-tuned models by their points.
    """

    number: int
    config: MemberConfig
    key: str
    curves: dict[str, list[float]]
    cause: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    model: MLP = field(init=False)
    spectra: dict[str, Spectra] = field(init=False)
    measured: Measured = field(init=False)
    recovered: dict[OperatingPoint, MLP] = field(init=False)


class Measurement:
    """The steps from trained members to their records.

    Every step takes members and skips those that failed. A member that fails in a step is marked with its
    cause, and the others are not affected. Where a step fails for several members together (it may need too
    much memory), it is repeated for one after the other.

    Args:
        workbench: data and device.
        analysis: points at which members are measured.
        best: function that returns the best accuracies of the members filed so far.
    """

    def __init__(
        self, workbench: Workbench, analysis: Analysis, best: Callable[[], BestSoFar] = BestSoFar
    ) -> None:
        self._workbench, self._analysis, self._best = workbench, analysis, best
        self._mates = BestSoFar()

    def take(self, member: Member, model: Callable[[], MLP]) -> None:
        """Bring a member's model to the device.

        Args:
            member: trained member.
            model: function that builds its model.
        """

        def bring(member: Member) -> None:
            member.model = model().to(self._workbench.device)

        self._attempt(member, bring)

    def factorise(self, members: Sequence[Member]) -> None:
        """Compute the spectra."""
        self._find("spectra", "spectra", members, self._factorised, self._factorised_together)

    def _factorised(self, member: Member) -> dict[str, Spectra]:
        return factorise(member.model, member.config, self._analysis, self._workbench)

    def _factorised_together(self, members: Sequence[Member]) -> list[dict[str, Spectra]]:
        models, configs = [member.model for member in members], [member.config for member in members]
        return factorise_together(models, configs, self._analysis, self._workbench)

    def search(self, members: Sequence[Member]) -> None:
        """Measure the points that may join the front, and the baselines."""
        members = _well(members)
        started = self._workbench.clock()
        searches = [
            measuring(member.model, member.spectra, member.config, self._analysis, self._workbench)
            for member in members
        ]
        for member, found in zip(members, together(searches, self._goes_on_alone), strict=True):
            if isinstance(found, Exception):
                self._fails(member, found)
            else:
                member.measured = found
        self._share("evaluate", started, members)

    def refit(self, members: Sequence[Member]) -> None:
        """Add the points of families that make models of their own."""
        for member in _well(members):
            started = self._workbench.clock()
            self._attempt(member, self._refit)
            self._share("evaluate", started, [member])

    def _refit(self, member: Member) -> None:
        member.measured = with_models(
            member.model, member.measured, member.config, self._analysis, self._workbench
        )

    def recover(self, members: Sequence[Member]) -> None:
        """Fine-tune the points that may move the sweep's front."""
        for member in _well(members):
            self._mates.add_points(member.measured.points)
        self._find("recover", "recovered", members, self._recovered_alone, self._recovered)

    def _recovered_alone(self, member: Member) -> dict[OperatingPoint, MLP]:
        return self._recovered([member])[0]

    def _recovered(self, members: Sequence[Member]) -> list[dict[OperatingPoint, MLP]]:
        trained = [Trained(member.model, member.measured, member.config) for member in members]
        flip = self._workbench.flip(members[0].config)  # members of one pack agree in it
        rivals = self._best()
        rivals.join(self._mates)
        return recover(trained, self._analysis, self._workbench, flip, rivals)

    def outcome(self, member: Member) -> Outcome:
        """Make a member's record, and its weights unless it failed."""
        config = member.config
        if member.cause is not None:
            return failed_record(member.number, config, member.key, member.cause, member.curves), None
        measured = member.measured
        record = MemberRecord(
            key=member.key,
            number=member.number,
            status=FINISHED,
            cause=None,
            config=config,
            curves=member.curves,
            dense=measured.dense,
            asked=measured.asked,
            points=(*measured.points, *member.recovered),
            baselines=measured.baselines,
            seconds=member.seconds,
        )
        models = measured.fitted | member.recovered
        fitted = {(point.family, point.ranks): small.cpu() for point, small in models.items()}
        return record, MemberWeights(member.model.cpu(), measured.spectra, fitted)

    def _find(
        self,
        step: str,
        name: str,
        members: Sequence[Member],
        alone: Callable[[Member], object],
        together: Callable[[Sequence[Member]], Sequence[object]],
    ) -> None:
        """Take a step that gives each member an attribute: together, or one by one where that fails."""
        members = _well(members)
        started = self._workbench.clock()
        if len(members) > 1:
            try:
                found = together(members)
            except Exception as error:  # whichever member it comes from, each will raise its own
                self._goes_on_alone(error)
            else:
                for member, own in zip(members, found, strict=True):
                    setattr(member, name, own)
                self._share(step, started, members)
                return
        for member in members:
            started = self._workbench.clock()
            self._attempt(member, lambda member: setattr(member, name, alone(member)))
            self._share(step, started, [member])

    def _share(self, step: str, started: float, members: Sequence[Member]) -> None:
        """Record the duration of a step since it started, in equal shares."""
        spent = self._workbench.clock() - started
        for member in members:
            member.seconds[step] = member.seconds.get(step, 0.0) + spent / len(members)

    def _attempt(self, member: Member, step: Callable[[Member], None]) -> None:
        try:
            step(member)
        except Exception as error:  # whatever stops one member must not stop the sweep; the cause is recorded
            self._fails(member, error)

    def _fails(self, member: Member, error: Exception) -> None:
        check_device(self._workbench.device)
        member.cause = cause_of(error)

    def _goes_on_alone(self, error: Exception) -> None:
        check_device(self._workbench.device)
        log.warning("members are measured one by one: %s", error)


def _well(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.cause is None]
