"""The search of arsvd: sweeps of training and compression, their records in MLflow, loading the best model.

`load_best` and the other names are imported when first used: trials import this package too, and need no
MLflow.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.config import SweepConfig, load_config
    from sweeps.run.preparing import prepare
    from sweeps.run.runner import SweepOutcome, run_sweep
    from sweeps.tracking import NoModelError, TrackingError, find_best, load_best

_PLACES = {
    "config": ("SweepConfig", "load_config"),
    "run.preparing": ("prepare",),
    "run.runner": ("SweepOutcome", "run_sweep"),
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


def _check_company() -> None:
    """Refuse to work where other packages replace this project's, instead of failing inside them.

    Raises:
        ImportError: a package is another project's; the message names it.
    """
    spec = find_spec("arsvd")
    found = None if spec is None or spec.origin is None else Path(spec.origin)
    own = Path(__file__).parents[1] / "arsvd" / "__init__.py"
    if found is None or found.resolve() != own.resolve():
        raise ImportError(
            f"the name 'arsvd' leads to {found or 'nothing'}, and not to {own.parent}, which belongs to this "
            "package: rename what was found, or start from another folder"
        )
    from arsvd.command import misplaced

    fault = misplaced(("cluster",))
    if fault is not None:
        raise ImportError(fault)


_check_company()
from arsvd.lazy import lazy_names  # noqa: E402 - only once it is known to be ours

__getattr__ = lazy_names(__name__, _PLACES)
