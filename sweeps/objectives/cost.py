"""What a model costs."""

from sweeps.objectives.base import Objective

PARAMS = Objective(lambda point: float(point.params), maximised=False)
MACS = Objective(lambda point: float(point.macs), maximised=False)
