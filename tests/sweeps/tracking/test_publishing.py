"""The end of a sweep with stand-ins for MLflow: it comes to an end, and says what is missing."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.tracking import ServerAwayError
from sweeps.tracking.publishing import FrontModels, Published, publish, submit_models
from sweeps.tracking.worker import Missed, Worker

QUICK = (0.01, 0.05)
FRONT = ("small", "medium", "large")
MODELS = "3 models of the front with their aliases"


class Server:
    """Stands in for MLflow's client.

    Args:
        upload: is called with how often it was called before, and raises what an upload raises.
    """

    def __init__(self, upload: Callable[[int], None]) -> None:
        self._upload = upload
        self.uploads, self.versions = 0, list[str]()

    def log_model_artifacts(self, model_id: str, folder: str) -> None:
        self.uploads += 1
        if self.uploads > 1000:
            raise AssertionError("it does not end")
        self._upload(self.uploads - 1)

    def create_model_version(self, name: str) -> str:
        self.versions.append(name)
        return name


def log_front(
    client: Any, run_id: str, front: Any, build: Any, data: Any, configs: Any, exporters: Any
) -> list[SimpleNamespace]:
    """As the real one: all that is not registered is built ahead, then uploaded and registered."""
    left = [point for point in front.points if point not in client.versions]
    for point in left:
        build(point)
    for point in left:
        client.log_model_artifacts(point, folder="")
        client.create_model_version(point)
    return [SimpleNamespace(version=point) for point in front.points]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tracking.publishing.log_front", log_front)
    monkeypatch.setattr("sweeps.tracking.publishing.set_aliases", lambda *_: {"best": "small"})


def models(build: Callable[[Any], Any] = str) -> FrontModels:
    front: Any = SimpleNamespace(points=FRONT)
    return FrontModels(front, build, SimpleNamespace(name="digits"), {}, 0.01)  # type: ignore[arg-type]


class Run:
    """Stands in for the sweep's writer."""

    run_id = "0"

    def __init__(self) -> None:
        self.closed: list[str] = []

    def finish(self, status: str, *_: object) -> None:
        self.closed.append(status)


def published(worker: Worker, server: Server, run: Run, patience: float, front: FrontModels) -> Published:
    storage = SimpleNamespace(exists=lambda name: False, files=lambda folder: [])
    ledger: Any = SimpleNamespace(storage=storage)
    return publish(worker, run, server, ledger, front, patience)  # type: ignore[arg-type]


def test_uploads_that_always_fail_are_given_up() -> None:
    def full(number: int) -> None:
        raise ServerAwayError("no space left for artifacts", answered=True)

    built: list[str] = []
    server, run = Server(full), Run()
    with Worker(QUICK) as worker:
        done = published(worker, server, run, 0.5, models(built.append))
    assert done == Published([], {}, (Missed(MODELS, "no space left for artifacts"),))
    assert server.uploads > 1  # it was tried again
    assert built == server.uploads * list(FRONT)
    assert run.closed == ["FINISHED"]


def test_tries_that_get_further_each_time_are_not_given_up() -> None:
    def every_other(number: int) -> None:
        time.sleep(0.15)
        if number % 2 == 0:
            raise ServerAwayError("away again")

    server, run = Server(every_other), Run()
    with Worker(QUICK) as worker:
        # each outage is shorter, all of it is not
        done = published(worker, server, run, 0.6, models())
    assert server.uploads == 2 * len(FRONT)
    assert server.versions == list(FRONT)
    assert (done.aliases, done.missing) == ({"best": "small"}, ())
    assert [entry.version for entry in done.versions] == list(FRONT)  # type: ignore[comparison-overlap]


def test_a_model_that_cannot_be_built_is_named_and_the_run_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(point: Any) -> Any:
        raise ValueError(f"{point} has no weights")

    run = Run()
    with Worker(QUICK) as worker:
        done = published(worker, Server(lambda number: None), run, 5.0, models(broken))
    assert done == Published([], {}, (Missed(MODELS, "ValueError: small has no weights"),))
    assert run.closed == ["FINISHED"]
    assert "in broken" in caplog.text


@pytest.mark.parametrize("place", ["build", "upload"])
def test_models_end_between_two_of_them_when_the_worker_is_cancelled(place: str) -> None:
    begun: list[object] = []

    def slow(what: object) -> None:
        begun.append(what)
        time.sleep(0.3)

    def quick(what: object) -> None:
        begun.append(what)

    server = Server(slow if place == "upload" else quick)
    with Worker(QUICK) as worker:
        front = models(slow if place == "build" else str)
        submitted = submit_models(worker, server, Run(), front)  # type: ignore[arg-type]
        while not begun:
            time.sleep(0.01)
        assert worker.cancel(10)
        assert worker.wait(10) == []
    assert submitted.done()
    assert len(begun) == 1
    assert len(server.versions) == (1 if place == "upload" else 0)  # what was uploaded is registered
