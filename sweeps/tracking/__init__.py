"""A sweep's results in MLflow: runs, curves, models, the registry; and how to read them back.

Nothing heavy is imported before it is used: MLflow alone takes more than a second.
"""

import os
from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names

# MLflow reports usage to its makers unless told not to. A sweep sends nothing to third parties unless the
# user says so, and MLflow reads this once, when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

if TYPE_CHECKING:
    from sweeps.tracking.connection import arsvd_home, connect, prompt_requests, tracking_uri
    from sweeps.tracking.models import LoggedVersion, ModelData, log_front
    from sweeps.tracking.outages import ServerAwayError, TrackingError, redact
    from sweeps.tracking.registry import find_best, load_best, set_aliases
    from sweeps.tracking.versions import NoModelError, RegisteredVersion, choose, registered_name
    from sweeps.tracking.writer import SweepWriter

_PLACES = {
    "connection": ("arsvd_home", "connect", "prompt_requests", "tracking_uri"),
    "outages": ("ServerAwayError", "TrackingError", "redact"),
    "models": ("LoggedVersion", "ModelData", "log_front"),
    "registry": ("find_best", "load_best", "set_aliases"),
    "versions": ("NoModelError", "RegisteredVersion", "choose", "registered_name"),
    "writer": ("SweepWriter",),
}

__all__ = [
    "LoggedVersion",
    "ModelData",
    "NoModelError",
    "RegisteredVersion",
    "ServerAwayError",
    "SweepWriter",
    "TrackingError",
    "arsvd_home",
    "choose",
    "connect",
    "find_best",
    "load_best",
    "log_front",
    "prompt_requests",
    "redact",
    "registered_name",
    "set_aliases",
    "tracking_uri",
]


__getattr__ = lazy_names(__name__, _PLACES)
