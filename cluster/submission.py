"""Turn a command of this package into a job that a cluster can run by itself."""

import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.jobs import JobServer, Request, working_dir
from cluster.secrecy import refuse_secrets, shippable
from cluster.shipping import pack, pinned_requirements

_HOME_VARIABLE = "ARSVD_HOME"


@dataclass(frozen=True)
class Code:
    """What is shipped so that the job runs what runs here.

    Attributes:
        distribution: name of the installed distribution.
        packages: folders of its packages.
        requirements: True if pip installs its requirements on the nodes first, at the versions of this
            machine.
    """

    distribution: str
    packages: tuple[Path, ...]
    requirements: bool = False


@dataclass(frozen=True)
class Submitted:
    """A job that the cluster has taken.

    Attributes:
        id: name that `logs` and `stop` take.
        home: place where the sweep is kept.
        withheld: names of variables that are set here and were not shipped, since they hold secrets.
    """

    id: str
    home: str
    withheld: tuple[str, ...]


def submit(
    server: JobServer,
    command: Sequence[str],
    about: str,
    code: Code,
    files: dict[str, str],
    home: str | None = None,
) -> Submitted:
    """Hand a command to a cluster.

    Args:
        server: the cluster's.
        command: program and arguments; the files lie in its current directory.
        about: purpose, shown in the list of jobs.
        code: files that are shipped.
        files: names and contents of further files that are shipped.
        home: place of the sweeps, the same on every node; see `job_home`.

    Raises:
        ClusterError: the command, a file or the environment holds a password, the home is no place that a
            cluster can share, or the cluster does not take the job.
    """
    home = job_home(home)
    refuse_secrets("the arguments", (*command, home))
    refuse_secrets("the files", files.values())
    environment, withheld = shippable(os.environ)
    with working_dir() as folder:
        pack(folder, code.packages, code.distribution)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        request = Request(
            id=_job_id(about),
            command=tuple(command),
            about=about,
            working_dir=folder,
            environment=environment | {_HOME_VARIABLE: home},
            requirements=tuple(pinned_requirements(code.distribution)) if code.requirements else (),
        )
        job_id = server.submit(request)
    return Submitted(job_id, home, tuple(withheld))


def job_home(home: str | None) -> str:
    """Choose where a job keeps its sweeps.

    Args:
        home: an absolute path or s3://BUCKET/PREFIX; when None `ARSVD_HOME`.

    Raises:
        ClusterError: nothing was said, or it is a path that means something else on another machine.
    """
    named = home or os.environ.get(_HOME_VARIABLE, "").strip()
    if not named:
        raise ClusterError(
            "where does the cluster keep the sweep? Give --home, storage that all its nodes mount at the "
            "same path, or s3://BUCKET/PREFIX"
        )
    if not named.startswith("s3://") and not Path(named).is_absolute():
        raise ClusterError(
            f"the home {named!r} is relative to this machine's folder, which the cluster does not know: give "
            "an absolute path on storage that all its nodes share, or s3://BUCKET/PREFIX"
        )
    return named


def _job_id(about: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", about.lower()).strip("-")[:40]
    return f"{slug}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
