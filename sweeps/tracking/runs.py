"""The runs of a sweep on the server, found by their tags and without duplicates."""

import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from sweeps.tracking.connection import URI_VARIABLE, artifact_location
from sweeps.tracking.outages import TrackingError, redact, tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SWEEP_TAG, MEMBER_TAG, CAUSE_TAG = "arsvd.sweep", "arsvd.member", "arsvd.cause"
DATA_TAG, DATASET_TAG = "arsvd.data_hash", "arsvd.dataset"
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
# The UI shows an experiment of unknown kind in its view for language-model applications.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_PAGE = 1000


@dataclass
class MemberRun:
    """The facts about a member's run that save asking the server again."""

    run_id: str
    start_time: int
    status: str
    params: set[str]
    has_cause: bool
    has_note: bool
    parent: str

    @classmethod
    def of(cls, run: "Run") -> "MemberRun":
        """Take the facts from a run that the server returned."""
        return cls(
            run_id=str(run.info.run_id),
            start_time=int(run.info.start_time),
            status=str(run.info.status),
            params=set(run.data.params),
            has_cause=CAUSE_TAG in run.data.tags,
            has_note=NOTE_TAG in run.data.tags,
            parent=run.data.tags.get(PARENT_TAG, ""),
        )


def check_experiment(client: "MlflowClient", dataset: str) -> None:
    """Make sure that runs of a data set can be written, before anything is trained for it.

    Raises:
        TrackingError: the experiment was deleted, or the server is away.
    """
    with tracking_errors(client.tracking_uri):
        _refuse_deleted(client, client.get_experiment_by_name(experiment_name(dataset)))


def experiment_id(client: "MlflowClient", dataset: str) -> str:
    """Find the experiment of a data set, or create it.

    Raises:
        TrackingError: the experiment was deleted.
    """
    name = experiment_name(dataset)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = artifact_location(client.tracking_uri, name)
            return str(client.create_experiment(name, location, _EXPERIMENT_TAGS))
        except MlflowException as error:
            # another sweep on the same data created it in between, or we did and the answer was lost
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
    _refuse_deleted(client, experiment)
    return str(experiment.experiment_id)


def experiment_name(dataset: str) -> str:
    """Return the name of the experiment that holds the sweeps of a data set."""
    return f"arsvd-{dataset}"


def _refuse_deleted(client: "MlflowClient", experiment: "Experiment | None") -> None:
    if experiment is None or experiment.lifecycle_stage == "active":
        return
    uri, number = client.tracking_uri, experiment.experiment_id
    # the user knows the variables of the shell, which may hold a password
    said = uri == os.environ.get(URI_VARIABLE, "").strip() or redact(uri) != uri
    place = "" if said else f"{URI_VARIABLE}={shlex.quote(uri)} "
    if uri.startswith("http"):
        removal = f"`mlflow gc --experiment-ids {number}` on the server's own machine"
    else:
        store = f'"${URI_VARIABLE}"' if said else shlex.quote(uri)
        removal = f"`{place}mlflow gc --backend-store-uri {store} --experiment-ids {number}`"
    raise TrackingError(
        f"the experiment {experiment.name!r} was deleted in MLflow, so that nothing can be written to it: "
        f"take it back with `{place}mlflow experiments restore --experiment-id {number}`, or remove it for "
        f"good with {removal}"
    )


def sweep_runs(
    client: "MlflowClient", experiment: str, sweep: str
) -> "tuple[Run | None, dict[str, MemberRun]]":
    """Find the run of a sweep, None where there is none, and the runs of its members by their keys.

    A request whose answer was lost may have been carried out, and sent again. Of duplicate runs one is kept,
    the same one whoever looks, and the others are deleted.
    """
    found = _search(client, experiment, f"tags.`{SWEEP_TAG}` = '{sweep}'")
    members = defaultdict(list)
    parents = []
    for run in found:
        if MEMBER_TAG in run.data.tags:
            members[run.data.tags[MEMBER_TAG]].append(run)
        else:
            parents.append(run)
    kept = {key: _keep_one(client, runs) for key, runs in members.items()}
    parents.sort(key=_age)
    for spare in parents[1:]:
        if not any(run.data.tags.get(PARENT_TAG) == spare.info.run_id for run in found):
            client.delete_run(spare.info.run_id)
    return (parents[0] if parents else None), {key: MemberRun.of(run) for key, run in kept.items()}


def member_run(client: "MlflowClient", experiment: str, sweep: str, key: str) -> MemberRun | None:
    """Find the run of one member."""
    condition = f"tags.`{SWEEP_TAG}` = '{sweep}' and tags.`{MEMBER_TAG}` = '{key}'"
    runs = _search(client, experiment, condition)
    return MemberRun.of(_keep_one(client, runs)) if runs else None


def _keep_one(client: "MlflowClient", runs: "Sequence[Run]") -> "Run":
    # a complete run before an incomplete one, then the oldest
    first, *spare = sorted(runs, key=lambda run: (run.info.status == "RUNNING", *_age(run)))
    for run in spare:
        client.delete_run(run.info.run_id)
    return first


def _age(run: "Run") -> tuple[int, str]:
    return int(run.info.start_time), str(run.info.run_id)


def _search(client: "MlflowClient", experiment: str, condition: str) -> "list[Run]":
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], condition, max_results=_PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
