"""The pages that `arsvd ui` leads to."""

import pytest
from mlflow import MlflowClient

from sweeps.tracking import SweepWriter, TrackingError
from sweeps.tracking.browsing import newest_page, sweep_page
from sweeps.tracking.links import EXPERIMENTS_PAGE, address


def started(client: MlflowClient, sweep: str, dataset: str, began: int) -> SweepWriter:
    writer = SweepWriter(client)
    writer.start(sweep=sweep, dataset=dataset, data_hash="a" * 64, params={}, began=began)
    return writer


def test_the_first_page_shows_the_newest_sweep_among_those_of_its_data(
    client: MlflowClient, make_record
) -> None:
    assert newest_page(client) == EXPERIMENTS_PAGE
    client.create_run(client.create_experiment("another project's"))
    assert newest_page(client) == EXPERIMENTS_PAGE
    newer = started(client, "mnist-1", "mnist", 2_000_000)
    older = started(client, "digits-1", "digits", 1_000_000)
    older.member(make_record(7))  # written last
    assert newest_page(client) == f"#/experiments/{newer.experiment_id}/runs?workflowType=machine_learning"


def test_a_sweep_has_a_page_of_its_own(client: MlflowClient, make_record) -> None:
    writer = started(client, "digits-1", "digits", 1_000_000)
    writer.member(make_record(7))
    page = sweep_page(client, "digits-1")
    assert page == writer.page
    assert f"/runs/{writer.run_id}?" in page
    with pytest.raises(TrackingError, match="no run of sweep digits-2; write it with: arsvd sync digits-2"):
        sweep_page(client, "digits-2")


def test_an_address_tells_no_password() -> None:
    assert address("https://me:secret@host/team/", "#/models") == "https://host/team/#/models"
