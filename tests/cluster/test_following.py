"""A job's output is shown once and to its end, also where the connection is lost on the way."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cluster import jobs
from cluster.jobs import ClusterError, ConnectionLostError, JobServer, UnknownJobError
from sweeps.cli import main


class StandIn:
    """Ray's client for jobs, as far as following needs it.

    Args:
        tails: what each connection brings: pieces of the log from its beginning, or errors.
        answers: what is said of the job, one for each question; the last one for all further ones.
    """

    def __init__(self, tails: list[list[str | Exception]], answers: list[str | Exception]) -> None:
        self.tails, self.answers = tails, answers
        self.connections = 0

    def get_job_info(self, job_id: str) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(
            submission_id=job_id, status=answer, metadata={}, start_time=None, end_time=None, message=""
        )

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        tail = self.tails[min(self.connections, len(self.tails) - 1)]
        self.connections += 1
        for piece in tail:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(jobs, "_PATIENCE_SECONDS", 0.5)


LOST = RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


@pytest.mark.parametrize(
    ("tails", "answers"),
    [
        ([["one ", "two ", LOST], ["one t", "wo three"]], ["RUNNING", "SUCCEEDED"]),
        ([["one two ", ConnectionError("refused")], [LOST], [LOST], ["one two three"]], ["SUCCEEDED"]),
        ([[TimeoutError("no answer")], ["one two three"]], ["SUCCEEDED"]),
        # the connection ended in order, as when the dashboard was ended, and the next question goes nowhere
        ([["one "], ["one two three"]], ["RUNNING", ConnectionError("refused"), "SUCCEEDED"]),
    ],
)
def test_every_character_is_shown_once(tails: Any, answers: Any, patience: None) -> None:
    shown: list[str] = []
    client = StandIn(tails, answers)
    job = JobServer(client, "http://head:8265").follow("job-1", shown.append)
    assert job.status == "SUCCEEDED"
    assert "".join(shown) == "one two three"
    assert client.connections == len(tails)


def test_a_cluster_that_stays_away_is_given_up_and_the_job_is_said_to_continue(
    patience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = StandIn([["one ", LOST], [LOST]], ["RUNNING"])
    shown: list[str] = []
    server = JobServer(client, "http://head:8265")
    with pytest.raises(ConnectionLostError) as lost:
        server.follow("job-1", shown.append)
    assert str(lost.value) == (
        f"the cluster at http://head:8265: {LOST}; it has not answered for 0.5 s. "
        "job-1 runs on: `arsvd logs -f job-1`"
    )
    assert shown == ["one "]
    assert client.connections > 2
    # the command ends with status 1: nothing was wrong with what was asked
    client.connections = 0
    monkeypatch.setattr(jobs, "open_job_server", lambda address: server)
    done = CliRunner().invoke(main, ["logs", "--follow", "job-1"])
    assert done.exit_code == 1
    assert done.stdout == "one "
    assert done.stderr.startswith("arsvd: the cluster at http://head:8265: ")
    assert "job-1 runs on: `arsvd logs -f job-1`" in done.stderr


def test_errors_that_waiting_cannot_fix_are_raised_at_once() -> None:
    gone = RuntimeError("Request failed with status code 404: Job job-1 does not exist.")
    # removed from the cluster's list while it was followed
    client = StandIn([["one "]], ["RUNNING", gone])
    with pytest.raises(UnknownJobError, match="has no job 'job-1': `arsvd jobs` lists them"):
        JobServer(client, "http://head:8265").follow("job-1", lambda text: None)
    assert client.connections == 1
    away = StandIn([["one "]], [ConnectionError("refused")])
    with pytest.raises(ClusterError, match="refused") as refused:
        JobServer(away, "http://head:8265").follow("job-1", lambda text: None)
    assert not isinstance(refused.value, ConnectionLostError)
    assert away.connections == 0

    def closed(text: str) -> None:
        raise BrokenPipeError("Broken pipe")

    # as in `arsvd logs -f job-1 | head`
    client = StandIn([["one "]], ["RUNNING"])
    with pytest.raises(ClusterError, match="Broken pipe"):
        JobServer(client, "http://head:8265").follow("job-1", closed)
    assert client.connections == 1
