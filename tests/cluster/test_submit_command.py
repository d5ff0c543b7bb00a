"""What `arsvd submit` hands in and what it refuses, on a stand-in for the cluster."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cluster import jobs
from cluster.jobs import JobServer
from sweeps.cli import main


class StandIn:
    """Ray's client for jobs: it notes what it is given."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []

    def submit_job(self, **job: Any) -> str:
        self.submitted.append(job)
        return str(job["submission_id"])


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    client = StandIn()
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "open_job_server", lambda address: JobServer(client, "http://head:8265"))
    return client


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["mnist-1", "--resume"], ["resume", "mnist-1"]),
        (
            ["mnist-1", "search.trials=9", "--resume", "--force"],
            ["resume", "mnist-1", "search.trials=9", "--force"],
        ),
        (["digits", "search.trials=9"], ["sweep", "sweep.yaml"]),
    ],
)
def test_a_job_runs_the_command_of_the_same_name(
    arguments: list[str], command: list[str], client: StandIn
) -> None:
    done = CliRunner().invoke(main, ["submit", *arguments, "--data-dir", "/shared/data", "--no-wait"])
    assert done.exit_code == 0, done.stderr
    (job,) = client.submitted
    assert shlex.split(job["entrypoint"]) == [
        *("python", "-m", "sweeps.cli"),
        *command,
        *("--address", "auto", "--data-dir", "/shared/data"),
    ]


def test_a_new_sweep_has_no_lock_to_take(client: StandIn) -> None:
    done = CliRunner().invoke(main, ["submit", "digits", "--force", "--no-wait"])
    assert done.exit_code == 2
    assert done.stderr == ("arsvd: --force goes with --resume: a new sweep has no lock that could be taken\n")
    assert client.submitted == []
