"""Two sweeps at once, into one server or one embedded store, and into one home."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.ledger.ledger import Ledger, sweep_ids

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", ["server", "embedded"])
def test_two_sweeps_at_once_do_not_meet(
    place: str, home: Any, new_server: Any, small: tuple[str, ...], ended: Any, check_once: Any
) -> None:
    if place == "server":
        server = new_server("server")
        server.start()
        home.variables["MLFLOW_TRACKING_URI"] = server.uri
    command = ("sweep", "digits", "search.trials=5", "select.max_drop=0.5", *small)
    both = [home.start(*command, f"search.seed={seed}") for seed in (1, 2)]
    for process in both:
        output, _ = ended(process)
        assert output.startswith("front of ")
    names = sweep_ids(home.path)
    assert len(names) == 2
    for name in names:
        ledger = Ledger.open(home.path, name)
        home.audit(ledger, planned=5)
        check_once(home.client, ledger)
    assert len(home.client.search_experiments(filter_string="name = 'arsvd-digits'")) == 1


def test_processes_that_open_a_new_store_at_once_all_can(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = "from sweeps.tracking import connect; print(len(connect().search_experiments()))"
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for opener in openers:
        output, errors = opener.communicate(timeout=240)
        assert (opener.returncode, output) == (0, "1\n"), errors
