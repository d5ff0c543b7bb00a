"""What a model costs."""

from sweeps.objectives.base import Objective

BITS = Objective(lambda point: float(point.cost.bits), maximised=False)
PARAMS = Objective(lambda point: float(point.cost.numbers), maximised=False)
MACS = Objective(lambda point: float(point.cost.macs), maximised=False)
