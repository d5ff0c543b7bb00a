"""Sweeps as Ray jobs: handed to a cluster's head node, which runs them to the end without us."""

import asyncio
import contextlib
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.addresses import ACCESS_REMEDY, ADDRESS_VARIABLE
from cluster.errors import ClusterError
from cluster.local import configure_client
from cluster.network import network_cause

_API_VARIABLE = "RAY_API_SERVER_ADDRESS"  # outranks the address that Ray's client is given
_SECONDS = 8
_PAUSE_SECONDS = 1
_PATIENCE_SECONDS = 60  # what a forwarded port that ended takes to be opened again, by a person too
# `arsvd stop` is a Ctrl-C to the sweep, which ends in order: running members are kept for `resume`
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
_CHATTY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_FINAL = ("SUCCEEDED", "FAILED", "STOPPED")


class UnknownJobError(ClusterError):
    """The cluster has no such job."""


class ConnectionLostError(ClusterError):
    """The cluster stopped answering while a job was followed; the job does not depend on that."""


@dataclass(frozen=True)
class Job:
    """A submitted job.

    Attributes:
        id: name that `logs` and `stop` take.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        about: the sweep file's name, or the sweep that is resumed.
        started: seconds since 1970; None before it runs.
        ended: seconds since 1970; None while it runs.
        reason: cause of its failure; empty otherwise.
    """

    id: str
    status: str
    about: str
    started: float | None
    ended: float | None
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether it will not change any more."""
        return self.status in _FINAL


@dataclass(frozen=True)
class Request:
    """What a job runs.

    Attributes:
        id: chosen by the caller; no two jobs of a cluster share one.
        command: program and arguments.
        about: shown in the list of jobs.
        working_dir: shipped to the cluster, and the job's current directory.
        environment: variables; everybody who sees the dashboard can read them.
        requirements: lines that pip installs on the nodes first; none when empty.
    """

    id: str
    command: tuple[str, ...]
    about: str
    working_dir: Path
    environment: dict[str, str]
    requirements: tuple[str, ...] = ()


class JobServer:
    """The part of a cluster's head node that takes jobs; `open_job_server` makes one."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self.address = client, address

    def submit(self, request: Request) -> str:
        """Hand in a job; returns its id as soon as the cluster has it.

        Raises:
            ClusterError: the cluster does not take it.
        """
        environment: dict[str, Any] = {
            "working_dir": str(request.working_dir),
            "env_vars": request.environment | _STOP,
        }
        if request.requirements:
            environment["pip"] = list(request.requirements)
        with self._errors():
            submitted: str = self._client.submit_job(
                entrypoint=shlex.join(request.command),
                submission_id=request.id,
                runtime_env=environment,
                metadata={"arsvd": request.about},
            )
        return submitted

    def jobs(self) -> list[Job]:
        """List the sweeps among the cluster's jobs, oldest first."""
        with self._errors():
            found = [_job(one) for one in self._client.list_jobs() if "arsvd" in (one.metadata or {})]
        return sorted(found, key=lambda job: job.started or float("inf"))

    def job(self, job_id: str) -> Job:
        """Say how a job is.

        Raises:
            ClusterError: there is no such job.
        """
        with self._errors(job_id):
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """Return what a job has printed.

        Raises:
            ClusterError: there is no such job.
        """
        with self._errors(job_id):
            text: str = self._client.get_job_logs(job_id)
        return text

    def follow(self, job_id: str, write: Callable[[str], None]) -> Job:
        """Pass on what a job prints, from the beginning, until it ends.

        A connection that is lost is sought again for a minute.

        Args:
            job_id: the job.
            write: function that receives pieces of text, each once.

        Raises:
            UnknownJobError: there is no such job.
            ConnectionLostError: the cluster went away.
            ClusterError: it did not answer in the first place.
        """
        shown = 0
        lost: float | None = None  # when the connection was lost, None while it holds
        self.job(job_id)

        async def tail() -> None:
            nonlocal shown, lost
            passed = 0
            async for piece in self._client.tail_job_logs(job_id):
                lost = None
                # after a lost connection the log comes from the beginning again
                fresh = piece[max(0, shown - passed) :]
                passed += len(piece)
                if fresh:
                    shown = passed
                    write(fresh)

        while True:
            began = time.monotonic()
            try:
                with self._errors(job_id):
                    asyncio.run(tail())
                job = self.job(job_id)
            except ClusterError as error:
                # a broken pipe is that of `write`: whoever read there is gone
                if isinstance(error, UnknownJobError) or isinstance(error.__cause__, BrokenPipeError):
                    raise
                now = time.monotonic()
                # a job may print nothing for hours: an attempt that lasted so long was a connection
                if lost is None or now - began > _PATIENCE_SECONDS:
                    lost = now
                if now - lost >= _PATIENCE_SECONDS:
                    raise ConnectionLostError(
                        f"{error}; it has not answered for {_PATIENCE_SECONDS} s. {job_id} runs on: "
                        f"`arsvd logs -f {job_id}`"
                    ) from error
            else:
                lost = None
                if job.final:
                    return job
            time.sleep(_PAUSE_SECONDS)

    def stop(self, job_id: str) -> Job:
        """Ask a job to end in order, as Ctrl-C would; it is killed after a minute.

        Raises:
            ClusterError: there is no such job.
        """
        with self._errors(job_id):
            self._client.stop_job(job_id)
        return self.job(job_id)

    @contextlib.contextmanager
    def _errors(self, job_id: str | None = None) -> Iterator[None]:
        """Name the cluster in whatever Ray's client raises."""
        import aiohttp
        import requests

        try:
            yield
        except (
            RuntimeError,
            ValueError,
            ConnectionError,
            TimeoutError,
            requests.RequestException,
            aiohttp.ClientError,
        ) as error:
            if job_id is not None and "does not exist" in str(error):
                raise UnknownJobError(
                    f"the cluster at {self.address} has no job {job_id!r}: `arsvd jobs` lists them"
                ) from None
            raise ClusterError(f"the cluster at {self.address}: {_short(str(error))}") from error


def open_job_server(address: str | None = None) -> JobServer:
    """Reach the job server of a cluster's head node.

    The token is found as Ray finds it: `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, ~/.ray/auth_token.

    Args:
        address: `http://HEAD:8265`; when None, `RAY_API_SERVER_ADDRESS` or `RAY_ADDRESS` where they hold such
            an address.

    Raises:
        ClusterError: within about 15 seconds, where it does not answer or refuses the token.
        RuntimeError: Ray was imported before it was configured.
    """
    url = _find_url(address)
    configure_client()
    _check_answer(url)
    try:
        from ray.job_submission import JobSubmissionClient

        for name in _CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ[_API_VARIABLE] = url
        return JobServer(JobSubmissionClient(url), url)
    except (RuntimeError, ConnectionError) as error:
        raise ClusterError(f"the cluster at {url} takes no jobs: {_short(str(error))}") from error


@contextlib.contextmanager
def working_dir() -> Iterator[Path]:
    """Yield an empty folder to be filled and shipped, and remove it."""
    with tempfile.TemporaryDirectory(prefix="arsvd-job-") as folder:
        yield Path(folder)


def _find_url(address: str | None) -> str:
    named = address
    for variable in (_API_VARIABLE, ADDRESS_VARIABLE):
        value = os.environ.get(variable, "").strip()
        if named is None and value.startswith(("http://", "https://")):
            named = value
    if named is None:
        raise ClusterError(
            "which cluster? Give --address http://HEAD:8265, or start one: "
            "`RAY_AUTH_MODE=token ray start --head --dashboard-host=127.0.0.1` (see docs/cluster.md)"
        )
    if not named.startswith(("http://", "https://")):
        raise ClusterError(f"{named!r} is no address of a dashboard: jobs go to http://HEAD:8265")
    return named.rstrip("/")


def _check_answer(url: str) -> None:
    """Ask with a time-out, which Ray's own client does not have."""
    import requests
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    try:
        said = requests.get(
            f"{url}/api/version", headers=get_auth_headers_if_auth_enabled({}), timeout=_SECONDS
        )
    except requests.RequestException as error:
        cause = network_cause(str(error), _SECONDS) or _short(str(error))
        raise ClusterError(
            f"no Ray dashboard answers at {url} ({cause}): start it, or correct the address"
        ) from None
    if said.status_code in (401, 403):
        raise ClusterError(f"the cluster at {url} refuses the token, or wants one: {ACCESS_REMEDY}")
    try:
        said.json()["ray_version"]
    except (ValueError, KeyError, TypeError):
        raise ClusterError(f"what answers at {url} is no Ray dashboard (status {said.status_code})") from None


def _job(details: Any) -> Job:
    status = str(getattr(details.status, "value", details.status))
    return Job(
        id=details.submission_id,
        status=status,
        about=(details.metadata or {}).get("arsvd", ""),
        started=None if not details.start_time else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        reason=(details.message or "") if status == "FAILED" else "",
    )


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason given")[:300]
