"""The data that a registered model stands for: no other data is registered under its name."""

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml
from mlflow.exceptions import MlflowException

from arsvd.json_fields import read_json
from sweeps.tracking.outages import TrackingError, tracking_errors
from sweeps.tracking.registry import ABSENT, registered_versions
from sweeps.tracking.versions import RegisteredVersion, registered_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

DATASET_TAG, CLASSES_TAG, ORIGIN_TAG = "arsvd.dataset", "arsvd.classes", "arsvd.origin"
_SHOWN = 5  # classes in a message
_LONGEST_TAG = 50_000  # characters; MLflow takes twice as many
_UNREADABLE = (OSError, ValueError, MlflowException, yaml.YAMLError)


class NameTakenError(TrackingError):
    """The name under which models should be registered stands for other data."""


class Described(Protocol):
    """The facts by which a data set is known."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def hash(self) -> str:
        """Content hash of the data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def origin(self) -> str:
        """Where the data set comes from; empty where its user named it."""


def check_name(client: "MlflowClient", data: Described) -> None:
    """Make sure, before anything is trained, that a data set's models can be registered under its name.

    They cannot where the name stands for other classes, or for the same classes of other images: models of
    both would be taken for models of one. The same images are always accepted; changed images are accepted
    where they come from the same folder, or where the user named them (`dataset.label`).

    Raises:
        NameTakenError: the name stands for other data.
        TrackingError: the server cannot be reached.
    """
    with tracking_errors(client.tracking_uri):
        model = _registered(client, registered_name(data.name))
        conflict = None if model is None else _conflict(client, model, data)
    if conflict is not None:
        raise NameTakenError(f"{conflict}. Give this data set a name of its own: dataset.label=NAME")


def claim_name(client: "MlflowClient", data: Described) -> None:
    """Create the registered model of a data set, or make sure that the existing one stands for it.

    Raises:
        NameTakenError: the name stands for other data.
        TrackingError: the server cannot be reached.
    """
    name = registered_name(data.name)
    facts = {DATASET_TAG: data.name, CLASSES_TAG: _text(data.classes), ORIGIN_TAG: data.origin or "named"}
    with tracking_errors(client.tracking_uri):
        try:
            client.create_registered_model(name, tags=facts)
            return
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        model = client.get_registered_model(name)
        conflict = _conflict(client, model, data)
        if conflict is None:
            for tag, text in facts.items():
                if tag not in model.tags:
                    client.set_registered_model_tag(name, tag, text)
    if conflict is not None:
        raise NameTakenError(
            f"{conflict}. Rename or delete the registered model {name} in MLflow, or begin a new sweep with "
            "dataset.label=NAME"
        )


def _registered(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None


def _conflict(client: "MlflowClient", model: "RegisteredModel", data: Described) -> str | None:
    """Say why a registered model does not stand for a data set; None where it does, or may do so."""
    versions = registered_versions(client, data.name)
    if any(version.data_hash == data.hash for version in versions):
        return None
    known = model.tags.get(CLASSES_TAG)
    if known is None and versions:
        known = _classes_of(client, versions[-1])
    if known is not None and known != _text(data.classes):
        return (
            f"the registered model {model.name} stands for other classes, {_listed(_parsed(known))}, than "
            f"this data set, {_listed(data.classes)}"
        )
    origin = model.tags.get(ORIGIN_TAG)
    if data.origin and origin is not None and origin != data.origin:
        return (
            f"the registered model {model.name} stands for other images, from another place, of the same "
            f"classes, {_listed(data.classes)}; a sweep with dataset.label={data.name} says that they belong "
            "together"
        )
    return None


def _classes_of(client: "MlflowClient", version: RegisteredVersion) -> str | None:
    """Return the classes of a version from before they were a tag; None if its description is unreadable."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="arsvd-") as folder, contextlib.suppress(*_UNREADABLE):
        location = client.get_model_version_download_uri(version.name, str(version.version))
        path = download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/MLmodel", dst_path=folder, tracking_uri=client.tracking_uri
        )
        described = yaml.safe_load(Path(path).read_text())
        classes = described.get("metadata", {}).get("classes") if isinstance(described, dict) else None
        return None if not isinstance(classes, list) else _text(tuple(map(str, classes)))
    return None


def _text(classes: tuple[str, ...]) -> str:
    text = json.dumps(classes, ensure_ascii=False)
    if len(text) <= _LONGEST_TAG:
        return text
    return json.dumps([f"{len(classes)} classes of SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"])


def _parsed(text: str) -> list[str]:
    try:
        classes = read_json(text)
    except ValueError:  # somebody else's tag
        return [text]
    return list(map(str, classes)) if isinstance(classes, list) else [text]


def _listed(classes: "list[str] | tuple[str, ...]") -> str:
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return ", ".join(map(str, classes[:_SHOWN])) + more
