"""The tracking server goes away in mid-sweep, and comes back; or comes back later only."""

import signal
import time
from typing import Any

import pytest

from sweeps.ledger.ledger import sweep_ids

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = 20
EASY = "select.max_drop=0.5"  # so that there is a best one among networks that hardly learned


def test_an_outage_of_20_seconds_costs_nothing(
    home: Any,
    new_server: Any,
    small: tuple[str, ...],
    until: Any,
    until_written: Any,
    ended: Any,
    check_once: Any,
) -> None:
    server = new_server("server")
    server.start()
    home.variables["MLFLOW_TRACKING_URI"] = server.uri
    sweep = home.start("sweep", "digits", "search.trials=12", EASY, *small, "training.epochs=100")
    until_written(home)
    server.stop(signal.SIGKILL)
    filed, began = home.filed, time.monotonic()
    assert filed < 12
    # nobody waits for the server: training goes on
    until("members are filed while the server is away", lambda: home.filed >= min(filed + 3, 12))
    time.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))
    assert sweep.poll() is None
    server.start()
    output, errors = ended(sweep)
    assert "training goes on" in errors or "waiting up to" in errors
    assert "front of " in output
    home.audit(home.ledger, planned=12)
    check_once(server.client, home.ledger)


def test_a_server_that_stays_away_is_reported_and_sync_completes_it(
    home: Any,
    new_server: Any,
    small: tuple[str, ...],
    until: Any,
    until_written: Any,
    ended: Any,
    check_once: Any,
) -> None:
    server = new_server("server")
    server.start()
    home.variables["MLFLOW_TRACKING_URI"] = server.uri
    sweep = home.start("sweep", "digits", "search.trials=6", EASY, *small, "training.epochs=100")
    until_written(home)
    server.stop(signal.SIGTERM)
    output, errors = ended(sweep, status=1)
    ledger = home.ledger
    assert "waiting up to 60 s for it" in errors
    last = errors.splitlines()[-1]
    assert f"arsvd: MLflow at {server.uri} lacks " in last
    assert " members, " in last
    assert "models of the front with their aliases" in last
    assert last.endswith(f"arsvd sync {ledger.facts.id}")
    # the sweep itself is whole, and says so
    assert output.startswith(f"front of {ledger.facts.id}")
    assert "load_best" not in output
    front = ledger.front()
    assert front is not None
    assert all(entry.test is not None for entry in front.points)
    assert (ledger.path / "report" / "front.html").is_file()

    # away still: bad input, and nothing is touched
    _, errors = home.run("sync", ledger.facts.id, status=2)
    assert "no tracking server answers" in errors

    again = new_server("server")  # the same store, at another address
    again.start()
    home.variables["MLFLOW_TRACKING_URI"] = again.uri
    for _ in range(2):
        output, _ = home.run("sync", ledger.facts.id)
        assert f"{again.uri} has 6 members of {ledger.facts.id} (finished)" in output
        home.audit(ledger, planned=6)
        check_once(again.client, ledger)

    fresh = new_server("fresh")
    fresh.start()
    for _ in range(2):
        home.run("sync", ledger.facts.id, "--to", fresh.uri)
        check_once(fresh.client, ledger)
    check_once(again.client, ledger)


def test_a_sweep_does_not_begin_without_a_server(home: Any, new_server: Any) -> None:
    home.variables["MLFLOW_TRACKING_URI"] = new_server("never").uri
    _, errors = home.run("sweep", "digits", status=2)
    assert "no tracking server answers" in errors
    assert not sweep_ids(home.path)
