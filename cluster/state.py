"""What is written down about the cluster that `arsvd cluster up` started on this machine."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.processes import ProcessId

STATE_FILE = "cluster.json"
HOME_VARIABLE = "ARSVD_HOME"
_VERSION = 1


class ClusterError(RuntimeError):
    """A cluster that cannot be used as asked. The message says why and what to do."""


@dataclass(frozen=True)
class LocalCluster:
    """A cluster of several nodes on this machine.

    Attributes:
        id: marks its processes, in their environment.
        supervisor: the process that its nodes belong to.
        address: `HOST:PORT` of the head node.
        dashboard: `http://HOST:PORT`; None where Ray was installed without it.
        token_path: file with the token, readable by its owner only.
        scratch: folder of Ray's sessions and logs.
        nodes: how many there were at the start.
        cpus_per_node: cores that each offers.
    """

    id: str
    supervisor: ProcessId
    address: str
    dashboard: str | None
    token_path: Path
    scratch: Path
    nodes: int
    cpus_per_node: int

    @property
    def running(self) -> bool:
        """Whether its supervisor still is the process that was started."""
        return self.supervisor.alive

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
    """Return the folder that holds the state file: `ARSVD_HOME`, else `.arsvd` here."""
    return Path(os.environ.get(HOME_VARIABLE) or ".arsvd").expanduser().absolute()


def read_state(home: Path | None = None) -> LocalCluster | None:
    """Read the state file, or return None where there is none.

    Args:
        home: its folder; `default_home()` when None.

    Raises:
        ClusterError: the file is damaged.
    """
    path = (default_home() if home is None else home) / STATE_FILE
    try:
        values = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ClusterError(f"{path} cannot be read ({error}): remove it if no cluster runs") from None
    try:
        if values["version"] != _VERSION:
            raise ValueError(f"version {values['version']}")
        return LocalCluster(
            id=str(values["id"]),
            supervisor=ProcessId(int(values["supervisor"]["pid"]), int(values["supervisor"]["started"])),
            address=str(values["address"]),
            dashboard=values["dashboard"],
            token_path=Path(values["token_path"]),
            scratch=Path(values["scratch"]),
            nodes=int(values["nodes"]),
            cpus_per_node=int(values["cpus_per_node"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClusterError(
            f"{path} does not describe a cluster ({error!r}): remove it if no cluster runs"
        ) from None
