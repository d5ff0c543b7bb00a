"""The search: sweeps of training and compression, their records in MLflow, and the best model back.

`load_best` and the rest are imported when first used: trials import this package too, and need no MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.config import SweepConfig, load_config
    from sweeps.preparing import prepare
    from sweeps.runner import SweepOutcome, run_sweep
    from sweeps.tracking import NoModelError, TrackingError, find_best, load_best

_PLACES = {
    "config": ("SweepConfig", "load_config"),
    "preparing": ("prepare",),
    "runner": ("SweepOutcome", "run_sweep"),
    "tracking": ("NoModelError", "TrackingError", "find_best", "load_best"),
}

__all__ = [
    "NoModelError",
    "SweepConfig",
    "SweepOutcome",
    "TrackingError",
    "find_best",
    "load_best",
    "load_config",
    "prepare",
    "run_sweep",
]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"sweeps.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
