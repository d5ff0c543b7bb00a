"""What ends a sweep's trials is raised, with the last trial too; a record that shows late is waited for."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.records import MemberRecord
from sweeps.ledger.storage import StorageError, open_storage
from sweeps.run import session as session_module
from sweeps.run.interruption import Interruption
from sweeps.run.session import Session
from sweeps.run.tuning import InterruptedSweepError, _Driver
from sweeps.trial.epochs import Trained

TRIAL = SimpleNamespace(trial_id="t", error_file=None)


class Reports:
    """What trials have reported."""

    def of(self, trials: Iterable[str]) -> dict[str, Trained]:
        return {trial: Trained(total=90, done=12, fresh=12, seconds=6.0) for trial in trials if trial == "t"}


class Searcher:
    """Gives a trial's one member up, unless it is broken."""

    broken: Exception | None = None
    members = 1  # still to be proposed

    def give_up(self, trial_id: str, cause: str) -> list[str]:
        return [] if self.broken else ["key"]


class Filing:
    """A session that cannot take members in."""

    def members_filed(self, keys: list[str], trial: str) -> None:
        if keys:
            raise StorageError("cannot read members/key.json")

    def note(self, text: str) -> None:
        raise AssertionError(text)


def new_driver() -> tuple[Any, Any, Interruption]:
    searcher, interruption = Searcher(), Interruption()
    session: Any = Filing()
    exporters: Any = Begun()
    driver = _Driver(searcher, session, interruption, exporters, Reports())  # type: ignore[arg-type]
    return driver, searcher, interruption


class Begun:
    """Exporters that note for how many models they were started."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def begin(self, count: int) -> None:
        self.counts.append(count)


def test_exporters_start_once_a_trial_ends_whose_place_no_other_takes() -> None:
    searcher, exporters = Searcher(), Begun()
    session: Any = SimpleNamespace(
        members_filed=lambda keys, trial: None, front=SimpleNamespace(points=("a point", "another"))
    )
    driver = _Driver(searcher, session, Interruption(), exporters, Reports())  # type: ignore[arg-type]
    driver.on_trial_result(1, [], TRIAL, {"keys": ["key"]})
    assert exporters.counts == []
    searcher.members = 0
    driver.on_trial_result(2, [], TRIAL, {"keys": ["key"]})
    assert exporters.counts == [2]
    # the sweep is to end: there will be no models
    searcher.broken = driver._halt = StorageError("a full disk")
    driver.on_trial_result(3, [], TRIAL, {"keys": []})
    assert exporters.counts == [2]


def test_an_error_with_the_last_result_is_raised_after_the_end() -> None:
    driver, searcher, _ = new_driver()
    driver.check()
    driver.on_trial_result(1, [], TRIAL, {"keys": ["key"]})
    assert isinstance(searcher.broken, StorageError)  # so that no failure is filed over the record
    with pytest.raises(StorageError, match="cannot read"):
        driver.check()


def test_a_searcher_that_broke_with_the_last_trial_is_told() -> None:
    driver, searcher, _ = new_driver()
    searcher.broken = ValueError("the study is away")
    driver.on_trial_error(1, [], TRIAL)
    with pytest.raises(ValueError, match="the study is away"):
        driver.check()


def test_an_interruption_in_the_last_step_is_obeyed() -> None:
    driver, _, interruption = new_driver()
    interruption.requested = True
    with pytest.raises(InterruptedSweepError):
        driver.check()


def test_epochs_of_trials_that_run_are_shown_before_the_first_of_them_ends() -> None:
    shown: list[tuple[dict[str, list[int]], dict[str, Trained]]] = []
    session: Any = SimpleNamespace(training=lambda trials, found: shown.append((trials, found)))
    searcher, exporters = Searcher(), Begun()
    driver = _Driver(searcher, session, Interruption(), exporters, Reports())  # type: ignore[arg-type]
    pack = {"members": [{"number": n, "config": {"epochs": 30}} for n in range(3)]}
    trials = [
        SimpleNamespace(trial_id="t", status="RUNNING", config=pack),
        SimpleNamespace(trial_id="u", status="RUNNING", config=pack),
        SimpleNamespace(trial_id="v", status="PENDING", config=pack),
    ]
    driver.on_step_begin(1, trials)
    driver.on_step_begin(2, trials)  # within a second: nobody would see it
    assert shown == [({"t": [30, 30, 30], "u": [30, 30, 30]}, {"t": Trained(90, 12, 12, 6.0)})]


@pytest.fixture
def new_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Session]:
    monkeypatch.setattr(session_module, "_APPEAR_SECONDS", 1.0)
    monkeypatch.setattr(session_module, "_LOOK_SECONDS", 0.01)

    def make(member: Callable[[str], MemberRecord | None]) -> Session:
        facts = SimpleNamespace(reference=(1000, 1000), validation_images=100)
        storage = open_storage(tmp_path)
        ledger: Any = SimpleNamespace(facts=facts, member=member, location="/shared/home", storage=storage)
        writer: Any = SimpleNamespace(progress=None)
        worker: Any = SimpleNamespace(submit=lambda *_, **__: None, away=None)
        progress: Any = SimpleNamespace(update=lambda _: None)
        return Session(ledger, 1, 0.01, writer, worker, progress)

    return make


def test_a_record_that_shows_late_is_taken_in(
    new_session: Callable[..., Session], new_record: Callable[..., MemberRecord]
) -> None:
    record = new_record(0, [(100, 0.8), (50, 0.7)])
    shown = threading.Event()
    session = new_session(lambda key: record if shown.is_set() else None)
    threading.Timer(0.2, shown.set).start()
    session.members_filed([record.key], "t")
    assert session.records == [record]
    best = BestSoFar.read(session._ledger.storage)  # what later trials are to beat
    assert best.accuracy(10**9) == max(point.accuracy for point in record.points)


def test_a_record_that_never_shows_stops_the_sweep(new_session: Callable[..., Session]) -> None:
    session = new_session(lambda key: None)
    with pytest.raises(StorageError, match="the record of member abc was written, and does not show in"):
        session.members_filed(["abc"], "t")
