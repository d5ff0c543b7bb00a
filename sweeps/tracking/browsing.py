"""Find the pages of MLflow's web interface that show a sweep, and the newest one."""

from typing import TYPE_CHECKING

from sweeps.tracking.links import EXPERIMENTS_PAGE, run_page, runs_page
from sweeps.tracking.outages import TrackingError, redact, tracking_errors
from sweeps.tracking.runs import DATASET_TAG, SWEEP_TAG, experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def sweep_page(client: "MlflowClient", sweep: str) -> str:
    """Return the page of a sweep's run.

    Raises:
        TrackingError: the server has no such sweep, or is away.
    """
    run = _newest(client, f"tags.`{SWEEP_TAG}` = '{sweep}'")
    if run is None:
        raise TrackingError(
            f"{redact(client.tracking_uri)} has no run of sweep {sweep}; write it with: arsvd sync {sweep}"
        )
    return run_page(run.info.experiment_id, run.info.run_id)


def newest_page(client: "MlflowClient") -> str:
    """Return the page with the runs of the experiment that the newest sweep belongs to.

    Raises:
        TrackingError: the server is away.
    """
    run = _newest(client, f"tags.`{SWEEP_TAG}` LIKE '%'")
    return EXPERIMENTS_PAGE if run is None else runs_page(run.info.experiment_id)


def _newest(client: "MlflowClient", condition: str) -> "Run | None":
    """Find the newest run of a sweep, as opposed to a member, whose run has no data set of its own."""
    condition = f"{condition} and tags.`{DATASET_TAG}` LIKE '%'"
    with tracking_errors(client.tracking_uri):
        named = client.search_experiments(filter_string=f"name LIKE '{experiment_name('%')}'")
        experiments = [experiment.experiment_id for experiment in named]
        runs = client.search_runs(
            experiments, condition, max_results=1, order_by=["attributes.start_time DESC"]
        )
        return runs[0] if runs else None
