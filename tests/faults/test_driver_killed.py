"""Fault 3: the driver is killed at random moments; the sweep resumes from its ledger each time."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
KILLS, MEMBERS = 5, 20
MOST_SECONDS = 60.0  # by which Ray's processes may outlive their driver
# a second or so a member: five kills find members left to train on a fast machine as well
LONGER = ("training.epochs=100",)


def test_a_sweep_whose_driver_is_killed_five_times_has_every_member_once(
    home: Any, small: tuple[str, ...], until: Callable[..., None]
) -> None:
    moments = random.Random(20)
    command = ("sweep", "digits", f"search.trials={MEMBERS}", *small, *LONGER)
    trained: dict[str, int] = {}
    for kill in range(KILLS):
        before = home.filed
        driver = home.start(*command)
        # within the first members of this run: in the start of Ray, between asking and training, in a record
        wanted = before + moments.choice([0, 1, 2])
        until("the sweep is on file", lambda: home.sweeps)
        command = ("resume", home.ledger.facts.id, "--quiet")
        until(f"{wanted} members are filed", lambda wanted=wanted: home.filed >= wanted)
        if wanted == before:
            until("a trial is asked for", lambda: home.asked(home.ledger))
        pause = moments.uniform(0, 0.6)
        _sleep_at_most(driver, pause)
        os.kill(driver.pid, signal.SIGKILL)  # only the driver: what it started must end by itself
        driver.communicate()
        until(f"what driver {kill} started has ended", lambda: not home.orphans(), MOST_SECONDS)
        for key, stamp in trained.items():
            assert home.stamp(key) == stamp, "a member on file was trained again"
        trained = {key: home.stamp(key) for key in home.ledger.member_keys()}
    _kill_while_it_publishes(home, until)
    output, _ = home.run("resume", home.ledger.facts.id)
    assert "front of" in output
    assert all(home.stamp(key) == stamp for key, stamp in trained.items())
    home.audit(home.ledger, planned=MEMBERS)

    # once more, with nothing to do: nothing is there twice
    versions = _registered(home)
    assert versions == len(home.ledger.front().points)
    home.run("resume", home.ledger.facts.id, "--quiet")
    home.audit(home.ledger, planned=MEMBERS)
    assert _registered(home) == versions

    # and extended
    home.run("resume", home.ledger.facts.id, f"search.trials={MEMBERS + 2}", "--quiet")
    home.audit(home.ledger, planned=MEMBERS + 2)
    assert home.ledger.config.search.trials == MEMBERS + 2
    assert all(home.stamp(key) == stamp for key, stamp in trained.items())


def _kill_while_it_publishes(home: Any, until: Callable[..., None]) -> None:
    """Kill two drivers: once the front is measured, and in the middle of its registration."""
    ledger = home.ledger
    for wanted in (0, 2):
        driver = home.start("resume", ledger.facts.id, "--quiet")
        until("the front is measured", ledger.front)
        until(f"{wanted} models are registered", lambda wanted=wanted: _registered(home) >= wanted)
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "the sweep ended before its driver could be killed"
        _, errors = driver.communicate()
        assert errors.startswith("arsvd: the process of the sweep was ended; go on with: ")
        assert errors.endswith(f"arsvd resume {ledger.facts.id}\n")
        assert wanted <= _registered(home) < len(ledger.front().points)
        assert home.parent_status(ledger) == "RUNNING"
        until("what the driver started has ended", lambda: not home.orphans(), MOST_SECONDS)


def _registered(home: Any) -> int:
    return len(home.client.search_model_versions("name = 'arsvd-digits'"))


def _sleep_at_most(driver: Any, seconds: float) -> None:
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    pytest.fail("the sweep ended before its driver could be killed")
