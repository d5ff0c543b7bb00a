"""A layer's outputs on calibration inputs."""

from typing import ClassVar

from arsvd.statistics.base import Basis


class Activation(Basis):
    """Energy is the variance of the outputs along a component."""

    calibrated: ClassVar[bool] = True
    energy_range: ClassVar[tuple[float, float]] = (0.9, 0.9999)


ACTIVATION = Activation()
