"""How well a model does on the validation images."""

from sweeps.objectives.base import Objective

ACCURACY = Objective(lambda point: point.accuracy, maximised=True)
MACRO_F1 = Objective(lambda point: point.macro_f1, maximised=True)
LOSS = Objective(lambda point: point.loss, maximised=False)
