"""Trials tell the driver how far their members are, seldom enough to cost nothing."""

import time
from collections.abc import Callable, Iterator

import pytest

from sweeps.trial import epochs
from sweeps.trial.epochs import EpochReport, EpochReports, Trained


@pytest.fixture
def kept() -> dict[str, bytes]:
    """What the control service keeps."""
    return {}


@pytest.fixture
def reports(kept: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[EpochReports]:
    monkeypatch.setattr(epochs, "_SECONDS", 0.01)

    def forget(beginning: str) -> None:
        for key in [key for key in kept if key.startswith(beginning)]:
            del kept[key]

    made = EpochReports("digits-1", kept.get, forget)
    yield made
    made.close()


def until(met: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_reports_of_a_trial_are_read_and_removed_at_the_end(
    kept: dict[str, bytes], reports: EpochReports
) -> None:
    report = EpochReport("digits-1", "t", 6, kept.__setitem__)
    report([3, 4], 1)
    report([3, 4], 3)
    until(lambda: reports.of(["t", "u"]).get("t", Trained(0)).done == 6)
    (trained,) = reports.of(["t"]).values()
    assert (trained.total, trained.done, trained.fresh) == (6, 6, 6)
    assert 0 <= trained.seconds < 20
    kept["arsvd/epochs/digits-2/t"] = b"of another sweep"
    reports.close()
    until(lambda: list(kept) == ["arsvd/epochs/digits-2/t"])


def test_a_trial_reports_once_a_second_and_its_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bytes] = []
    monkeypatch.setattr(epochs, "_SECONDS", 3600.0)
    report = EpochReport("digits-1", "t", 100, lambda key, value: told.append(value))
    for epoch in range(1, 101):
        report([7], epoch)
    assert len(told) == 2
    assert b'"done": 1,' in told[0]
    assert b'"done": 100,' in told[1]


def test_a_member_from_a_checkpoint_has_had_only_a_few_epochs_here(kept: dict[str, bytes]) -> None:
    report = EpochReport("digits-1", "t", 30, kept.__setitem__)
    report([7], 30)
    (value,) = kept.values()
    assert b'"done": 30, "fresh": 1,' in value


def test_failures_to_report_epochs_are_ignored(reports: EpochReports) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("no control service")

    EpochReport("digits-1", "t", 30, away)([7], 1)
    assert reports.of(["t"]) == {}


def test_without_ray_nothing_is_reported() -> None:
    EpochReport("digits-1", "t", 30)([7], 1)
