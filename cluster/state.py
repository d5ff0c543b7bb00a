"""What is written down about the cluster that `arsvd cluster up` started on this machine."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.processes import ProcessId, boot_id

STATE_FILE = "cluster.json"
HOME_VARIABLE = "ARSVD_HOME"
_VERSION = 2


class ClusterError(RuntimeError):
    """A cluster that cannot be used as asked. The message says why and what to do."""


@dataclass(frozen=True)
class Machine:
    """A machine between two of its starts: numbers of processes mean nothing on any other.

    Attributes:
        name: its host name.
        boot: drawn by the kernel at every start; empty where the system does not say it.
    """

    name: str
    boot: str

    @classmethod
    def this(cls) -> "Machine":
        """Describe the machine of this process."""
        return cls(socket.gethostname(), boot_id())


@dataclass(frozen=True)
class LocalCluster:
    """A cluster of several nodes on one machine.

    Attributes:
        id: marks its processes, in their environment.
        machine: where it was started; a home on shared storage shows its state to others too.
        supervisor: the process that its nodes belong to.
        address: `HOST:PORT` of the head node.
        dashboard: `http://HOST:PORT`; None where Ray was installed without it.
        token_path: file with the token, readable by its owner only.
        scratch: folder of Ray's sessions and logs.
        nodes: how many there were at the start.
        cpus_per_node: cores that each offers.
    """

    id: str
    machine: Machine
    supervisor: ProcessId
    address: str
    dashboard: str | None
    token_path: Path
    scratch: Path
    nodes: int
    cpus_per_node: int

    @property
    def running(self) -> bool:
        """Whether its supervisor still is the process that was started, on this machine."""
        return self.machine == Machine.this() and self.supervisor.alive

    def check_here(self, home: Path) -> None:
        """Refuse a cluster of another machine: whether it runs cannot be seen from here.

        Args:
            home: where its state file is.

        Raises:
            ClusterError: it was started on another machine.
        """
        if self.machine.name != Machine.this().name:
            raise ClusterError(
                f"the cluster in {home} runs on {self.machine.name}: end it there, or remove "
                f"{home / STATE_FILE} if that machine is gone"
            )

    def write(self, home: Path) -> None:
        """Write the state file, whole or not at all."""
        values = asdict(self) | {
            "version": _VERSION,
            "token_path": str(self.token_path),
            "scratch": str(self.scratch),
        }
        path = home / STATE_FILE
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(values, indent=2) + "\n")
        os.replace(draft, path)


def default_home() -> Path:
    """Return the folder that holds the state file: `ARSVD_HOME`, else `.arsvd` here.

    Raises:
        ClusterError: it begins with the home of a user whom this machine does not know.
    """
    home = os.environ.get(HOME_VARIABLE) or ".arsvd"
    try:
        return Path(home).expanduser().absolute()
    except RuntimeError:
        raise ClusterError(f"{HOME_VARIABLE} is {home}: there is no such user here") from None


def read_state(home: Path | None = None) -> LocalCluster | None:
    """Read the state file, or return None where there is none.

    Args:
        home: its folder; `default_home()` when None.

    Raises:
        ClusterError: the file is damaged.
    """
    path = (default_home() if home is None else home) / STATE_FILE
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")  # a pipe would be waited for
        values = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(values, ensure_ascii=False).encode()  # half of a character, which nothing can print
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:  # the last where it is nested too deeply
        raise ClusterError(f"{path} cannot be read ({error}): remove it if no cluster runs") from None
    try:
        if values["version"] != _VERSION:
            raise ValueError(f"version {values['version']}")
        return LocalCluster(
            id=str(values["id"]),
            machine=Machine(str(values["machine"]["name"]), str(values["machine"]["boot"])),
            supervisor=ProcessId(int(values["supervisor"]["pid"]), int(values["supervisor"]["started"])),
            address=str(values["address"]),
            dashboard=None if values["dashboard"] is None else str(values["dashboard"]),
            token_path=Path(values["token_path"]),
            scratch=Path(values["scratch"]),
            nodes=int(values["nodes"]),
            cpus_per_node=int(values["cpus_per_node"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ClusterError(
            f"{path} does not describe a cluster ({error!r}): remove it if no cluster runs"
        ) from None
