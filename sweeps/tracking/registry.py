"""The model registry: the versions in it, their aliases, and loading one of them."""

import hashlib
import logging
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from sweeps.tracking.connection import connect, has_store
from sweeps.tracking.connection import tracking_uri as default_tracking_uri
from sweeps.tracking.descriptions import model_note
from sweeps.tracking.outages import TrackingError, redact, tracking_errors
from sweeps.tracking.versions import (
    WEIGHTS_PATH,
    NoModelError,
    RegisteredVersion,
    check_limits,
    choose,
    most_accurate,
    registered_name,
    smallest,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from torch import device as Device
    from torch import nn

log = logging.getLogger(__name__)

BEST, SMALLEST, MOST_ACCURATE = "best", "smallest", "most-accurate"
_PAGE = 1000
# The words of file stores for a name that does not exist.
_GONE = re.compile(r"No such (artifact|file)|NoSuchKey|\b404\b|does not exist|not found", re.IGNORECASE)
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def registered_versions(client: "MlflowClient", dataset: str) -> list[RegisteredVersion]:
    """List the versions of a data set's registered model that this software wrote, oldest first.

    A version whose tags cannot be read is named in the log and left out, so that the others remain usable.

    Raises:
        TrackingError: the server cannot be reached.
    """
    name = registered_name(dataset)
    found: list[RegisteredVersion] = []
    token: str | None = None
    with tracking_errors(client.tracking_uri):
        while True:
            page = client.search_model_versions(f"name='{name}'", max_results=_PAGE, page_token=token)
            found += [facts for version in page if (facts := _readable(version)) is not None]
            token = page.token
            if not token:
                return sorted(found, key=lambda version: version.version)


def set_aliases(client: "MlflowClient", dataset: str, max_drop: float) -> dict[str, RegisteredVersion]:
    """Set the aliases best, smallest and most-accurate by validation results, and describe the model.

    Args:
        client: client of the server.
        dataset: name of the data set.
        max_drop: largest distance below the best dense validation accuracy, in [0, 1], at which the smallest
            version becomes "best". Where no version qualifies the alias is removed: it must not promise what
            is not there.

    Returns:
        The version of each alias that is set.

    Raises:
        NoModelError: no model of this data set is registered.
        TrackingError: the server cannot be reached.
    """
    versions = registered_versions(client, dataset)
    while True:
        chosen = {SMALLEST: smallest(versions), MOST_ACCURATE: most_accurate(versions)}
        with suppress(NoModelError):
            chosen[BEST] = choose(versions, max_drop=max_drop)
        _point_aliases(client, registered_name(dataset), chosen)
        # Another sweep may have registered models and set the aliases in between. Whoever set them last looks
        # once more, so that they end up right for what is there.
        seen, versions = versions, registered_versions(client, dataset)
        if versions == seen:
            with tracking_errors(client.tracking_uri):
                note = model_note(dataset, chosen.get(BEST))
                client.update_registered_model(registered_name(dataset), note)
            return chosen


def _point_aliases(client: "MlflowClient", name: str, chosen: dict[str, RegisteredVersion]) -> None:
    with tracking_errors(client.tracking_uri):
        standing = client.get_registered_model(name).aliases
        for alias, version in chosen.items():
            if str(standing.get(alias)) != str(version.version):
                client.set_registered_model_alias(name, alias, str(version.version))
        if BEST not in chosen and BEST in standing:
            client.delete_registered_model_alias(name, BEST)


def find_best(
    dataset: str,
    *,
    max_drop: float | None = None,
    max_params: int | None = None,
    alias: str | None = None,
    tracking_uri: str | None = None,
) -> RegisteredVersion:
    """Find a data set's best registered model, without loading it.

    Args:
        dataset: name of the data set.
        max_drop: largest distance below the best dense validation accuracy, in [0, 1], for the fewest
            parameters.
        max_params: largest number of parameters, for the highest validation accuracy.
        alias: alias "best", "smallest" or "most-accurate"; "best" where none of the three is given.
        tracking_uri: address of the server; None for `MLFLOW_TRACKING_URI`, else the embedded store.

    Raises:
        ValueError: more than one of the three is given, or a limit is out of range.
        NoModelError: nothing qualifies.
        TrackingError: the server cannot be reached.
    """
    _check_request(max_drop, max_params, alias)
    client = _reach(dataset, tracking_uri)
    return _find(client, dataset, max_drop, max_params, alias)


def load_best(
    dataset: str,
    *,
    max_drop: float | None = None,
    max_params: int | None = None,
    alias: str | None = None,
    device: "str | Device" = "cpu",
    tracking_uri: str | None = None,
) -> "nn.Module":
    """Load a data set's best registered model.

    The model is read from its safetensors file, after the file's SHA-256 was compared with the one recorded
    at registration. Nothing is unpickled.

    Args:
        dataset: name of the data set.
        max_drop: largest distance below the best dense validation accuracy, in [0, 1], for the fewest
            parameters.
        max_params: largest number of parameters, for the highest validation accuracy.
        alias: alias "best", "smallest" or "most-accurate"; "best" where none of the three is given.
        device: device of the model.
        tracking_uri: address of the server; None for `MLFLOW_TRACKING_URI`, else the embedded store.

    Returns:
        A module in evaluation mode: float32 images (batch, channels, height, width) in [0, 1] to logits
        (batch, classes).

    Raises:
        ValueError: more than one of the three is given, a limit is out of range, or the file is not the one
            that was registered.
        NoModelError: nothing qualifies.
        TrackingError: the server cannot be reached.
    """
    _check_request(max_drop, max_params, alias)
    client = _reach(dataset, tracking_uri)
    return load_version(client, _find(client, dataset, max_drop, max_params, alias)).to(device)


def load_version(client: "MlflowClient", version: RegisteredVersion) -> "nn.Module":
    """Load one registered version from its safetensors file, on the CPU and in evaluation mode.

    Raises:
        ValueError: the file is not the one that was registered.
        TrackingError: the server or the file cannot be reached.
    """
    import arsvd

    with tempfile.TemporaryDirectory(prefix="arsvd-") as folder:
        path = _fetched(client, version, "weights", WEIGHTS_PATH, folder)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != version.sha256:
            raise ValueError(
                f"the weights of {version.uri} are not those that were registered: their SHA-256 is {found}, "
                f"recorded is {version.sha256}; the file was damaged or exchanged, so it was not loaded"
            )
        return arsvd.load(path).eval()


def input_shape(client: "MlflowClient", version: RegisteredVersion) -> tuple[int, ...]:
    """Return the shape of one input of a registered version, as its signature states it.

    Raises:
        TrackingError: the server or the file cannot be reached.
    """
    from mlflow.models import Model

    with tempfile.TemporaryDirectory(prefix="arsvd-") as folder:
        signature = Model.load(str(_fetched(client, version, "signature", "MLmodel", folder))).signature
        return tuple(signature.inputs.inputs[0].shape[1:])


def _fetched(client: "MlflowClient", version: RegisteredVersion, what: str, name: str, folder: str) -> Path:
    """Download one file of a registered version into a folder."""
    from mlflow.artifacts import download_artifacts

    uri = client.tracking_uri
    with tracking_errors(uri):
        place = client.get_model_version_download_uri(version.name, str(version.version)).rstrip("/")
    try:
        with tracking_errors(uri):
            return Path(download_artifacts(artifact_uri=f"{place}/{name}", dst_path=folder, tracking_uri=uri))
    except OSError as error:
        if _GONE.search(str(error)):
            raise TrackingError(
                f"{version.uri} has no {what} in {redact(place)}, where files were deleted or moved: "
                "put them back, or delete this version in MLflow"
            ) from None
        raise TrackingError(f"the {what} of {version.uri} cannot be fetched: {error}") from None


def _check_request(max_drop: float | None, max_params: int | None, alias: str | None) -> None:
    request = {"max_drop": max_drop, "max_params": max_params, "alias": alias}
    given = [name for name, value in request.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"give only one of max_drop, max_params and alias, got {' and '.join(given)}")
    check_limits(max_drop, max_params)


def _reach(dataset: str, tracking_uri: str | None) -> "MlflowClient":
    """Connect for reading only: where there is no store, none is created."""
    uri = default_tracking_uri() if tracking_uri is None else tracking_uri
    if not has_store(uri):
        raise NoModelError(
            f"no model is registered for the data set {dataset!r}; no sweep has registered any model yet in "
            f"{redact(uri)}"
        )
    return connect(uri)


def _find(
    client: "MlflowClient", dataset: str, max_drop: float | None, max_params: int | None, alias: str | None
) -> RegisteredVersion:
    if max_drop is None and max_params is None:
        return _by_alias(client, dataset, BEST if alias is None else alias)
    versions = registered_versions(client, dataset)
    if not versions:
        raise NoModelError(_nothing_registered(client, dataset))
    return choose(versions, max_drop=max_drop, max_params=max_params)


def _by_alias(client: "MlflowClient", dataset: str, alias: str) -> RegisteredVersion:
    name = registered_name(dataset)
    with tracking_errors(client.tracking_uri):
        try:
            return _facts(client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            raise NoModelError(_nothing_registered(client, dataset)) from None
    listed = ", ".join(sorted(aliases)) or "none"
    raise NoModelError(f"the registered model {name!r} has no alias {alias!r}; it has {listed}")


def _nothing_registered(client: "MlflowClient", dataset: str) -> str:
    with tracking_errors(client.tracking_uri):
        models = client.search_registered_models(filter_string="name LIKE 'arsvd-%'")
    # a model whose versions were all deleted is still there
    found = [model.name for model in models if model.name != registered_name(dataset)]
    names = ", ".join(sorted(name.removeprefix("arsvd-") for name in found))
    others = f"there are models of: {names}" if names else "no sweep has registered any model yet"
    return f"no model is registered for the data set {dataset!r}; {others}"


def _readable(version: "ModelVersion") -> RegisteredVersion | None:
    if "arsvd.sweep" not in version.tags:
        return None
    try:
        return _facts(version)
    except ValueError as error:
        log.warning("%s; it is left out", error)
        return None


def _facts(version: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion.from_tags(version.name, int(version.version), version.tags)
