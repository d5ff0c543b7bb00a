"""The best accuracy at each size before fine-tuning, of all members so far: what trials have to beat."""

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
    """The content of the file."""

    points: tuple[tuple[Count, Share], ...]


class BestSoFar:
    """The best validation accuracy at each size, of points that were not fine-tuned.

    Args:
        points: pairs (parameters, accuracy), one for each point.
    """

    def __init__(self, points: Iterable[tuple[int, float]] = ()) -> None:
        self._params: list[int] = []
        self._accuracies: list[float] = []
        self._join(points)

    def add(self, record: MemberRecord) -> None:
        """Add a member; one that failed adds nothing."""
        if record.status == FINISHED:
            self.add_points(record.points)

    def add_points(self, points: Iterable[OperatingPoint]) -> None:
        """Add points; fine-tuned ones add nothing."""
        self._join((p.cost.numbers, p.accuracy) for p in points if p.family != RECOVERED)

    def accuracy(self, params: int) -> float:
        """Return the best accuracy with at most this many parameters; 0 where nothing is that small."""
        place = bisect.bisect_right(self._params, params)
        return self._accuracies[place - 1] if place else 0.0

    def join(self, other: "BestSoFar") -> None:
        """Add the points of another one."""
        self._join(zip(other._params, other._accuracies, strict=True))

    def write(self, storage: Storage) -> None:
        """File the points in a sweep's directory, where trials on any machine find them.

        Raises:
            StorageError: the file cannot be written.
        """
        points = [list(pair) for pair in zip(self._params, self._accuracies, strict=True)]
        storage.write(BEST_SO_FAR, json.dumps({"version": RECORD_VERSION, "points": points}).encode())

    @classmethod
    def read(cls, storage: Storage) -> "BestSoFar":
        """Read what `write` filed. It only serves to save time, so an unreadable file counts as empty."""
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
        """Keep the non-dominated points, by ascending parameters."""
        joined = [*zip(self._params, self._accuracies, strict=True), *points]
        self._params, self._accuracies = [], []
        for params, accuracy in sorted(joined, key=lambda pair: (pair[0], -pair[1])):
            if not self._accuracies or accuracy > self._accuracies[-1]:
                self._params.append(params)
                self._accuracies.append(accuracy)
