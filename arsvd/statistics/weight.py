"""The weight itself, as in plain SVD, without any inputs."""

from typing import ClassVar

from arsvd.statistics.base import Basis


class Weight(Basis):
    """Energy is the squared singular value."""

    calibrated: ClassVar[bool] = False
    energy_range: ClassVar[tuple[float, float]] = (0.3, 0.999)


WEIGHT = Weight()
