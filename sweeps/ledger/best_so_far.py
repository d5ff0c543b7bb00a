"""How good the members filed so far are at each size before fine-tuning: what trials have to beat."""

import bisect
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from arsvd import OperatingPoint
from arsvd.json_fields import Count, Share, read_fields, read_json
from sweeps.config.on_record import RECORD_VERSION
from sweeps.ledger.ledger import BEST_SO_FAR
from sweeps.ledger.records import FINISHED, RECOVERED, MemberRecord, without_version
from sweeps.ledger.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Points:
    """What the file holds."""

    points: tuple[tuple[Count, Share], ...]


class BestSoFar:
    """The best validation accuracy at each size, of points that were not fine-tuned.

    Args:
        points: (parameters, accuracy) of each point.
    """

    def __init__(self, points: Iterable[tuple[int, float]] = ()) -> None:
        self._params: list[int] = []
        self._accuracies: list[float] = []
        self._join(points)

    def add(self, record: MemberRecord) -> None:
        """Take a member in; one that failed adds nothing."""
        if record.status == FINISHED:
            self.add_points(record.points)

    def add_points(self, points: Iterable[OperatingPoint]) -> None:
        """Take points in; fine-tuned ones add nothing."""
        self._join((p.params, p.accuracy) for p in points if p.family != RECOVERED)

    def accuracy(self, params: int) -> float:
        """Return the best accuracy at no more parameters, 0 where nothing is that small."""
        place = bisect.bisect_right(self._params, params)
        return self._accuracies[place - 1] if place else 0.0

    def join(self, other: "BestSoFar") -> None:
        """Take another's points in."""
        self._join(zip(other._params, other._accuracies, strict=True))

    def write(self, storage: Storage) -> None:
        """File it in a sweep's directory, where trials on any machine find it.

        Raises:
            StorageError: it cannot be written.
        """
        points = [list(pair) for pair in zip(self._params, self._accuracies, strict=True)]
        storage.write(BEST_SO_FAR, json.dumps({"version": RECORD_VERSION, "points": points}).encode())

    @classmethod
    def read(cls, storage: Storage) -> "BestSoFar":
        """Read what `write` filed. It only ever saves time, so what cannot be read counts as empty."""
        try:
            values = without_version(
                read_json(storage.read(BEST_SO_FAR)), "file of the best accuracies so far"
            )
            return cls(read_fields(_Points, values, "not a whole file").points)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            log.warning("every point is worth fine-tuning, %s is of no use: %s", BEST_SO_FAR, error)
            return cls()

    def _join(self, points: Iterable[tuple[int, float]]) -> None:
        """Keep what nothing of no more parameters reaches, by ascending parameters."""
        joined = [*zip(self._params, self._accuracies, strict=True), *points]
        self._params, self._accuracies = [], []
        for params, accuracy in sorted(joined, key=lambda pair: (pair[0], -pair[1])):
            if not self._accuracies or accuracy > self._accuracies[-1]:
                self._params.append(params)
                self._accuracies.append(accuracy)
