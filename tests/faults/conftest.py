"""What the fault tests share: the real command in its own processes, and an audit of all that it leaves."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.ledger.asked import Asked, read_asked
from sweeps.ledger.ledger import Ledger, sweep_ids

WAIT_SECONDS = 300.0  # for a machine that others load; what is waited for ends the wait
SMALL = (
    "model.hidden=[16]",
    "training.epochs=2",
    "compression.finetune_epochs=0",
    "compression.families=[threshold]",
    "compression.energy.points=4",
    "resources.pack=1",
    "resources.concurrent=2",
    "model.reference=[16]",
)
LONG = (
    "training.epochs=4000",
    "resources.checkpoint_every=0.5",
)  # a member is in training when something happens


def wait_for(what: str, met: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition is met; fail with its name where it never is."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(0.02)


def processes_of(sessions: set[int]) -> list[int]:
    """Processes of some sessions that run: what a command has started stays in its session.

    Not by environment: Ray writes the titles of its workers over theirs.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.append(int(path.parent.name))
    return found


@dataclass
class Home:
    """A home of sweeps and the commands that work in it.

    Attributes:
        path: ARSVD_HOME.
        variables: further environment.
    """

    path: Path
    variables: dict[str, str] = field(default_factory=dict)
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start an `arsvd` command in a process group of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeps.cli", *arguments],
            env={**os.environ, "ARSVD_HOME": str(self.path), "OMP_NUM_THREADS": "1", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run an `arsvd` command to its end; return what it printed on both streams."""
        process = self.start(*arguments)
        return self.ended(process, status)

    def ended(self, process: "subprocess.Popen[str]", status: int = 0) -> tuple[str, str]:
        """Wait for the end of a command; return what it printed on both streams."""
        output, errors = process.communicate(timeout=2 * WAIT_SECONDS)
        assert process.returncode == status, f"status {process.returncode}\n{output}\n{errors}"
        return output, errors

    @property
    def ledger(self) -> Ledger:
        """The latest sweep."""
        return Ledger.open(self.path, sweep_ids(self.path)[-1])

    def open(self, sweep: str) -> Ledger:
        """A sweep by the beginning of its id."""
        return Ledger.open(self.path, sweep)

    @property
    def filed(self) -> int:
        """Members on file in the latest sweep; 0 while there is none."""
        ids = sweep_ids(self.path)
        return len(Ledger.open(self.path, ids[-1]).member_keys()) if ids else 0

    @property
    def sweeps(self) -> list[str]:
        """The sweeps of the home."""
        return sweep_ids(self.path)

    def stamp(self, key: str) -> int:
        """When a member's record was written, in nanoseconds."""
        return (self.ledger.path / "members" / f"{key}.json").stat().st_mtime_ns

    def asked(self, ledger: Ledger) -> list[Asked]:
        """What a sweep has asked for, in the order of the trials; all of it must be whole."""
        return read_asked(ledger, 10**6, pytest.fail)

    @property
    def client(self) -> MlflowClient:
        """The tracking server."""
        uri = self.variables.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.path}/mlflow.db"
        return MlflowClient(tracking_uri=uri)

    def audit(self, ledger: Ledger, planned: int, failed: int = 0) -> None:
        """Check that every planned member was asked for, and is exactly once in ledger and MLflow."""
        records = ledger.members()
        keys = {record.key for record in records}
        assert len(keys) == len(records) == planned
        assert sum(record.status == "failed" for record in records) == failed

        asked = self.asked(ledger)
        assert Counter(member.key for member in asked) == Counter(keys)
        assert [(m.number, m.config) for m in asked] == [(r.number, r.config) for r in records]
        assert [member.number for member in asked] == list(range(planned))

        client, sweep = self.client, ledger.facts.id
        experiment = client.get_experiment_by_name("arsvd-digits")
        runs = list(
            client.search_runs(
                [experiment.experiment_id], f"tags.`arsvd.sweep` = '{sweep}'", max_results=1000
            )
        )
        children = [run for run in runs if "arsvd.member" in run.data.tags]
        assert Counter(run.data.tags["arsvd.member"] for run in children) == Counter(keys)
        assert Counter(run.info.status for run in children) == Counter(
            {"FINISHED": planned - failed, "FAILED": failed}
        )
        (parent,) = [run for run in runs if "arsvd.member" not in run.data.tags]
        assert parent.info.status == "FINISHED"
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}

        front = ledger.front()
        assert front is not None
        assert all(point.test is not None for point in front.points)
        versions = client.search_model_versions("name = 'arsvd-digits'", max_results=1000)

        named = Counter(
            tuple(v.tags[tag] for tag in ("arsvd.member", "ranks", "basis", "family")) for v in versions
        )
        assert set(named.values()) == {1}
        assert len(named) >= len(front.points)

    def parent_status(self, ledger: Ledger) -> str:
        """The status of a sweep's run."""
        experiment = self.client.get_experiment_by_name("arsvd-digits")
        runs = self.client.search_runs(
            [experiment.experiment_id], f"tags.`arsvd.sweep` = '{ledger.facts.id}'", max_results=1000
        )
        (parent,) = [run for run in runs if "arsvd.member" not in run.data.tags]
        return str(parent.info.status)

    def orphans(self) -> list[int]:
        """Processes that commands of this home have started and that still run."""
        return processes_of({process.pid for process in self.started})

    def shown(self, ledger: Ledger) -> dict[str, object]:
        """What `arsvd show --json` says."""
        output, _ = self.run("show", ledger.facts.id, "--json")
        values: dict[str, object] = json.loads(output)
        return values


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home; what its commands have started ends with the test."""
    made = Home(tmp_path / "home")
    yield made
    for pid in made.orphans():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in made.started:
        process.communicate()


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Overrides that make members take a second."""
    return SMALL


@pytest.fixture(scope="session")
def long() -> tuple[str, ...]:
    """Overrides that make members take minutes."""
    return (*SMALL, *LONG)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits for a condition: `until("a member is filed", lambda: home.filed)`."""
    return wait_for
