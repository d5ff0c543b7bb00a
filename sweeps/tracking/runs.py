"""The runs of a sweep on the server: found by their tags, each there once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from sweeps.tracking.connection import artifact_location

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SWEEP_TAG, MEMBER_TAG, CAUSE_TAG, PARENT_TAG = (
    "arsvd.sweep",
    "arsvd.member",
    "arsvd.cause",
    "mlflow.parentRunId",
)
# The UI shows an experiment of unknown kind in its view for language-model applications.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_PAGE = 1000


@dataclass
class MemberRun:
    """What is known of a member's run without asking the server again."""

    run_id: str
    start_time: int
    status: str
    params: set[str]
    has_cause: bool

    @classmethod
    def of(cls, run: "Run") -> "MemberRun":
        """Take what is known from a run as the server gave it."""
        return cls(
            run_id=str(run.info.run_id),
            start_time=int(run.info.start_time),
            status=str(run.info.status),
            params=set(run.data.params),
            has_cause=CAUSE_TAG in run.data.tags,
        )


def experiment_id(client: "MlflowClient", name: str) -> str:
    """Find an experiment, or create it.

    Raises:
        MlflowException: it was deleted.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = artifact_location(client.tracking_uri, name)
            return str(client.create_experiment(name, location, _EXPERIMENT_TAGS))
        except MlflowException as error:
            # another sweep on the same data created it in between, or a lost answer said that we did
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise MlflowException(
            f"the experiment {name!r} is deleted; restore it with `mlflow experiments restore`, "
            "or remove it for good with `mlflow gc`",
            INVALID_PARAMETER_VALUE,
        )
    return str(experiment.experiment_id)


def sweep_runs(
    client: "MlflowClient", experiment: str, sweep: str
) -> "tuple[Run | None, dict[str, MemberRun]]":
    """Find the run of a sweep, None where there is none, and the runs of its members by their keys.

    A request whose answer was lost may have been carried out, and sent again: of runs that stand for the same
    thing one is kept, the same one whoever looks, and the others are deleted.
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
    # a run that is whole before one that is not, then the oldest
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
