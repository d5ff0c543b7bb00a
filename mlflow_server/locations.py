"""Where clients of the server may have it read and write: only inside the server's artifacts.

MLflow takes the location of an experiment's files from whoever creates the experiment, which may be anyone
with an account; that way the server would write any file of the user that runs it. The stores here are
MLflow's own, and refuse such locations whichever route they come by. Locations that a database holds already
are those of the embedded store, which `arsvd ui` shows; a server that passes files through has none, and
opens none.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from mlflow.exceptions import MlflowException
from mlflow.server import handlers
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as ModelStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

_PROXIED = "mlflow-artifacts:"
# Of runs, logged models and other versions; of this machine where MLflow finds it in the folder of the run.
_SOURCES = ("", "file", "mlflow-artifacts", "models", "runs")
# Tags with which a trace says where the server reads.
_PLACES = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation", "mlflow.trace.spansLocation")
_TAG = "mlflow.traceTag."
_LEAVES = re.compile(r"[\\\x00-\x1f]|(^|[/:])\.\.($|/)")


def guard_stores() -> None:
    """Restrict the server of this process to its artifacts; call this before any request."""
    for scheme in DATABASE_ENGINES:
        handlers._tracking_store_registry.register(scheme, _GuardedTracking)
        handlers._model_registry_store_registry.register(scheme, _GuardedModels)
    if handlers._is_serving_proxied_artifacts():
        handlers._get_artifact_repository_for_uri = _refuse_repository


def check_location(location: str | None) -> None:
    """Refuse a location of an experiment's files that is not inside the server's artifacts.

    Args:
        location: requested location; None or "" leaves the choice to the server.

    Raises:
        MlflowException: the location is elsewhere; status 400.
    """
    if location and not _is_proxied(location):
        raise _refusal(
            f"the artifact location {location[:200]!r} is refused: leave it out, or give "
            f"{_PROXIED}/FOLDER, a folder of the server's artifacts"
        )


def check_source(source: str | None) -> None:
    """Refuse a source of a model version from which the server would read elsewhere.

    Args:
        source: address of a model's files.

    Raises:
        MlflowException: the source is elsewhere; status 400.
    """
    scheme, colon, _ = (source or "").partition(":")
    known = (scheme if colon else "") in _SOURCES and not _leaves(source or "")
    if not known or (scheme == _PROXIED.rstrip(":") and not _is_proxied(source or "")):
        raise _refusal(
            f"the model's source {str(source)[:200]!r} is refused: register a model that was logged to this "
            "server, by models:/MODEL_ID or runs:/RUN_ID/NAME"
        )


def _refuse_repository(location: str) -> None:
    raise _refusal(
        f"the files at {location[:200]!r} are outside the server's artifacts: "
        "look at them on their own machine, with `arsvd ui`"
    )


class _GuardedTracking(TrackingStore):
    def __init__(self, store_uri: str, artifact_uri: str) -> None:
        super().__init__(store_uri, artifact_uri)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> Any:
        check_location(artifact_location)
        return super().create_experiment(name, artifact_location, tags)

    def start_trace(self, trace_info: Any) -> Any:
        _check_trace(trace_info.trace_id, trace_info.tags)
        return super().start_trace(trace_info)

    def log_spans(self, location: str, spans: list[Any], tracking_uri: str | None = None) -> Any:
        for span in spans:  # the root's attributes become tags of the trace
            _check_trace(span.trace_id, [key.removeprefix(_TAG) for key in span.attributes])
        return super().log_spans(location, spans, tracking_uri)

    def set_trace_tag(self, trace_id: str, key: str, value: str) -> Any:
        _check_trace(trace_id, [key])
        return super().set_trace_tag(trace_id, key, value)

    def deprecated_start_trace_v2(
        self, experiment_id: str, timestamp_ms: int, request_metadata: Any, tags: Mapping[str, str]
    ) -> Any:
        _check_trace("", tags)
        return super().deprecated_start_trace_v2(experiment_id, timestamp_ms, request_metadata, tags)

    def deprecated_end_trace_v2(
        self, request_id: str, timestamp_ms: int, status: Any, request_metadata: Any, tags: Mapping[str, str]
    ) -> Any:
        own = {
            key: value for key, value in tags.items() if key not in _PLACES
        }  # old clients send all of them
        return super().deprecated_end_trace_v2(request_id, timestamp_ms, status, request_metadata, own)


class _GuardedModels(ModelStore):
    def __init__(self, store_uri: str) -> None:
        super().__init__(store_uri)

    def create_model_version(self, name: str, source: str, *arguments: Any, **keywords: Any) -> Any:
        check_source(source)
        return super().create_model_version(name, source, *arguments, **keywords)


def _is_proxied(location: str) -> bool:
    """Tell whether a place is a folder of the server's artifacts, however MLflow may read it."""
    rest = location.removeprefix(_PROXIED)
    return rest != location and not _leaves(rest) and not rest.startswith("//") and not set("?#;") & set(rest)


def _leaves(text: str) -> bool:
    """Tell whether a path goes up, or has characters that some reader takes for a way up."""
    while (plain := unquote(text)) != text:
        if set("?#;") & (set(plain) - set(text)):
            return True
        text = plain
    return _LEAVES.search(text) is not None


def _check_trace(trace: str, tags: Iterable[str]) -> None:
    if _leaves(trace):
        raise _refusal(f"the trace id {trace[:200]!r} is refused: it is part of a path")
    if places := sorted(set(tags) & set(_PLACES)):
        raise _refusal(f"the trace tag {places[0]} is refused: the server itself says where traces are kept")


def _refusal(text: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(text)
