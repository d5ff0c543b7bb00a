"""How far a sweep is and how long it still takes, from what was measured."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sweeps.ledger.records import MemberRecord
from sweeps.run.pace import Estimate, Pace
from sweeps.trial.epochs import Trained

EPOCHS = 30


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(new_record: Callable[..., MemberRecord]) -> Callable[..., MemberRecord]:
    """A member that took 15 seconds to train and 6 more until it was on file."""

    def make(number: int) -> MemberRecord:
        made = new_record(number, [(100, 0.9)])
        seconds = {"train": 15.0, "spectra": 1.0, "evaluate": 2.0, "recover": 3.0}
        return replace(made, config=replace(made.config, epochs=EPOCHS), seconds=seconds)

    return make


def test_nothing_is_known_before_the_first_trial_runs(clock: Clock) -> None:
    assert Pace(4, 2, clock).estimate() == Estimate(0, 0, None, True)


def test_epochs_in_training_count_and_give_a_first_estimate(clock: Clock) -> None:
    pace = Pace(4, 2, clock)
    trials = {"a": [EPOCHS], "b": [EPOCHS]}
    assert pace.running(trials, {})
    assert pace.estimate() == Estimate(0, 120, None, True)
    assert pace.running(trials, {"a": Trained(30, 10, 10, 5.0)})
    # 110 epochs of half a second on two places; what comes after the training is not known yet
    assert pace.estimate() == Estimate(10, 120, pytest.approx(27.5), True)
    assert not pace.running(trials, {"a": Trained(30, 10, 10, 5.0)})


def test_time_after_the_training_counts_once_it_was_measured(
    clock: Clock, record: Callable[..., MemberRecord]
) -> None:
    pace = Pace(4, 2, clock)
    pace.running({"a": [EPOCHS], "b": [EPOCHS]}, {"b": Trained(30, 30, 30, 15.0)})
    clock.now += 4
    pace.ended("a")
    pace.add(record(0))
    pace.running({"b": [EPOCHS], "c": [EPOCHS]}, {"b": Trained(30, 30, 30, 15.0)})
    # 60 epochs of half a second; six seconds of each of three members, four of which have passed for b
    assert pace.estimate() == Estimate(60, 120, pytest.approx((30 + 18 - 4) / 2), False)
    clock.now += 1
    assert pace.estimate().left == pytest.approx((30 + 18 - 5) / 2)  # it comes down while b is measured
    clock.now += 100
    assert pace.estimate().left == pytest.approx((30 + 12) / 2)  # and no more than b's share


def test_the_last_trial_has_one_place(clock: Clock, record: Callable[..., MemberRecord]) -> None:
    pace = Pace(3, 2, clock)
    pace.add(record(0))
    pace.add(record(1))
    pace.running({"c": [EPOCHS]}, {"c": Trained(30, 20, 20, 10.0)})
    assert pace.estimate() == Estimate(80, 90, pytest.approx(5 + 6), False)


def test_a_member_from_a_checkpoint_says_nothing_of_the_epochs_before(clock: Clock) -> None:
    pace = Pace(1, 1, clock)
    pace.running({"a": [EPOCHS]}, {"a": Trained(30, 25, 5, 2.5)})
    assert pace.estimate() == Estimate(25, 30, pytest.approx(2.5), True)


def test_members_of_a_retried_pack_that_are_on_file_are_not_to_be_trained(clock: Clock) -> None:
    pace = Pace(3, 1, clock)
    pace.running({"a": [EPOCHS] * 3}, {"a": Trained(30, 10, 10, 5.0)})
    assert pace.estimate().epochs == 70


def test_a_sweep_that_is_done_has_nothing_left(clock: Clock, record: Callable[..., MemberRecord]) -> None:
    pace = Pace(2, 2, clock)
    pace.add(record(0))
    pace.add(record(1))
    assert pace.estimate() == Estimate(60, 60, 0.0, False)
