"""Real services for every test: PostgreSQL, in clusters of the tests' own."""

import contextlib
import os
import pwd
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_WAIT_SECONDS = 90.0
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@pytest.fixture
def in_child() -> Callable[..., int]:
    """Run something in a forked process: `in_child(work, size=N, killed=True)`; returns how that ended.

    Files of the process grow to N bytes: the write beyond kills it, or with `killed=False` fails as on a full
    disk. A fork, since importing MLflow again would take seconds.
    """

    def run(work: Callable[[], object], size: int | None = None, killed: bool = True) -> int:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if size is not None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if killed else signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                work()
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


class PostgresCluster:
    """One PostgreSQL server on the loopback address that asks for a password (SCRAM).

    Attributes:
        port: its TCP port, the same after every restart.
        user: its superuser.
        password: that user's password, made for this cluster alone.
    """

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.user = "arsvd"
        self.password = secrets.token_urlsafe(12)
        self.port = _free_port()
        # Not under pytest's folders: those are closed to other users, and PostgreSQL refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="arsvd-postgres-"))
        self._owner = _owner()
        if self._owner is not None:
            shutil.chown(self._folder, self._owner)
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()

    def uri(self, database: str = "postgres", password: str | None = None) -> str:
        """Return a database's address, as SQLAlchemy, Optuna and MLflow take it."""
        return f"postgresql://{self.user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; returns its address."""
        self.run("createdb", database)
        return self.uri(database)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's client programs, such as psql or pg_dump, on this cluster."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=_WAIT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return this process's environment with what PostgreSQL's programs need to reach the cluster."""
        return {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
        }

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        if self._process is not None:
            raise RuntimeError("the cluster runs already")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # nothing here outlives the machine
            "max_connections": 60,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self._folder / "data"), *words],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._as_owner(),
            )
        ready = [str(self.programs / "pg_isready"), "--quiet"]
        deadline = time.monotonic() + _WAIT_SECONDS
        while subprocess.run(ready, env=self.environment(), check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        """End the server: smart (waits for clients), fast (ends them) or immediate (as in a crash)."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(_STOP_SIGNALS[mode])
        self._process.wait(_WAIT_SECONDS)
        self._process = None

    def restart(self, mode: str = "immediate") -> None:
        """Stop the server in a mode of `stop` and start it again on the same port."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """End the server and delete everything it kept."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        if self._owner is not None:
            shutil.chown(secret, self._owner)
        done = subprocess.run(
            [
                str(self.programs / "initdb"),
                f"--pgdata={self._folder / 'data'}",
                f"--username={self.user}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            cwd=self._folder,
            capture_output=True,
            text=True,
            **self._as_owner(),
        )
        secret.unlink()
        assert done.returncode == 0, done.stderr

    def _as_owner(self) -> dict[str, object]:
        if self._owner is None:
            return {}
        return {"user": self._owner, "group": pwd.getpwnam(self._owner).pw_gid, "extra_groups": []}


def _owner() -> str | None:
    """The user that runs the server: this one, unless it is root."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in users)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps the server's out of PATH, one folder a version."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return kept[-1].parent if kept else None


@pytest.fixture
def new_postgres() -> Iterator[Callable[[], PostgresCluster]]:
    """Start clusters that a test may stop, restart and fill as it likes: `cluster = new_postgres()`."""
    programs = _require_programs()
    with contextlib.ExitStack() as clusters:

        def start() -> PostgresCluster:
            cluster = PostgresCluster(programs)
            clusters.callback(cluster.remove)
            cluster.start()
            return cluster

        yield start


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A cluster that all tests share: give each its own database, `postgres.create("name")`."""
    cluster = PostgresCluster(_require_programs())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def _require_programs() -> Path:
    programs = _programs()
    if programs is None:
        pytest.skip(
            "PostgreSQL's initdb is neither on PATH nor in /usr/lib/postgresql/*/bin "
            "(on Debian: apt-get install postgresql)"
        )
    return programs
