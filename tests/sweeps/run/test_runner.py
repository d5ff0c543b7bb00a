"""How a sweep's MLflow run is closed when the sweep ends early; stand-ins for MLflow, and no Ray."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.run import runner
from sweeps.run.runner import ClusterLostError, SweepStoppedError
from sweeps.tracking import TrackingError
from sweeps.tracking.worker import Worker

LONG_SECONDS = 20.0


class Server:
    """Stands in for client and writer of one run."""

    tracking_uri, run_id = "http://stand-in", "0"

    def __init__(self) -> None:
        self.status, self.members = "RUNNING", list[int]()

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(status=self.status))

    def finish(self, status: str) -> None:
        self.status = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(runner, "SweepWriter", lambda client: server)
    monkeypatch.setattr(runner, "open_run", lambda *_: None)
    monkeypatch.setattr(runner, "_STOP_SECONDS", 0.5)
    return server


def stopped() -> SweepStoppedError:
    ledger: Any = SimpleNamespace(facts=SimpleNamespace(id="digits-1"))
    front: Any = None
    return SweepStoppedError(ledger, front, "arsvd resume digits-1")


def run(server: Server, error: BaseException, begin: Callable[[Worker], object]) -> None:
    """Begin some writing, end the sweep with an error, and see that it comes out soon."""
    prepared: Any = SimpleNamespace(client=server, config=None)
    ledger: Any = None

    def sweep() -> None:
        with runner._sweep_run(prepared, ledger) as (_, worker):
            begin(worker)
            raise error

    began = time.monotonic()
    with pytest.raises(type(error)) as caught:
        sweep()
    assert caught.value is error
    assert time.monotonic() - began < LONG_SECONDS


def test_ctrl_c_ends_a_long_export_and_the_run_counts_as_killed(server: Server) -> None:
    exported: list[int] = []

    def begin(worker: Worker) -> None:
        def export() -> None:
            for number in range(300):
                worker.check_cancelled()
                exported.append(number)
                time.sleep(0.2)

        worker.submit(export)
        worker.submit(server.finish, "FINISHED")

    run(server, stopped(), begin)
    assert 1 <= len(exported) < 100
    assert server.status == "KILLED"


def test_a_run_that_was_closed_in_time_stays_finished(server: Server) -> None:
    run(server, stopped(), lambda worker: worker.submit(server.finish, "FINISHED"))
    assert server.status == "FINISHED"


# name: how the sweep ends, and its run
ENDS = {
    "interrupted": (stopped(), "KILLED"),
    "the cluster is lost": (ClusterLostError("no raylet"), "FAILED"),
}


@pytest.mark.parametrize(("error", "status"), ENDS.values(), ids=ENDS)
def test_members_on_file_go_to_mlflow_before_a_sweep_ends(
    error: Exception, status: str, server: Server
) -> None:
    def begin(worker: Worker) -> None:
        for number in range(20):
            worker.submit(server.members.append, number)

    run(server, error, begin)
    assert server.members == list(range(20))
    assert server.status == status


def test_after_an_error_nothing_is_waited_for(server: Server) -> None:
    def begin(worker: Worker) -> None:
        worker.submit(time.sleep, 0.5)
        worker.submit(server.finish, "FINISHED")

    run(server, RuntimeError("a fault"), begin)
    assert server.status == "FAILED"


def test_a_server_that_is_away_does_not_hide_why_the_sweep_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(run_id: str) -> None:
        raise TrackingError("no answer")

    monkeypatch.setattr(server, "get_run", away)
    run(server, stopped(), lambda worker: None)
    assert server.status == "RUNNING"
