"""Members that were never trained: records as large as those of a real MNIST sweep."""

import random

from arsvd import OperatingPoint
from sweeps.config import MemberConfig
from sweeps.ledger.records import FINISHED, MemberRecord

POINTS = 380  # what a member of the bundled MNIST sweep has
BASELINE_POINTS = 48
REFERENCE = (535_818, 535_040)  # parameters and MACs of 784-512-256-10


def made_up_record(number: int, config: MemberConfig, data_hash: str) -> MemberRecord:
    """Make a member whose points look like a trained one's: accuracy rises with size, and levels off.

    Args:
        number: its Optuna trial number, the seed of its points.
        config: as it was asked.
        data_hash: for its key.
    """
    chooser = random.Random(number)
    best = chooser.uniform(0.96, 0.988)

    def point(family: str, basis: str | None) -> OperatingPoint:
        params = int(chooser.lognormvariate(10.8, 1.0))
        accuracy = round(best * (1 - 0.9 * 2.0 ** (-params / 6000)) - chooser.uniform(0, 0.01), 4)
        return OperatingPoint(
            ranks=(params % 97, params % 89, None),
            params=params,
            macs=params,
            accuracy=accuracy,
            macro_f1=accuracy,
            loss=1 - accuracy,
            family=family,
            basis=basis,
            threshold=round(chooser.uniform(0.3, 0.999), 6) if family == "energy" else None,
        )

    curve = [round(chooser.random(), 6) for _ in range(config.epochs)]
    return MemberRecord(
        key=config.key(data_hash),
        number=number,
        status=FINISHED,
        cause=None,
        config=config,
        curves=dict.fromkeys(("train_loss", "validation_loss", "validation_accuracy", "lr"), curve),
        dense=point("dense", None),
        asked=point("energy", "loss"),
        points=tuple(point("energy" if index % 3 else "budget", "loss") for index in range(POINTS)),
        baselines={
            name: tuple(point("fixed", "weight") for _ in range(BASELINE_POINTS))
            for name in ("fixed", "weight energy")
        },
        seconds={"train": 10.0, "spectra": 0.5, "evaluate": 3.0, "recover": 8.0},
    )
