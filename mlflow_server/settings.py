"""The settings of a server, checked before anything starts."""

from dataclasses import dataclass
from pathlib import Path

from mlflow_server.addresses import LOOPBACK, allowed_hosts, is_loopback
from mlflow_server.artifacts import resolve_artifacts
from mlflow_server.database import resolve_database
from mlflow_server.errors import SettingError
from mlflow_server.sqlite import sqlite_address
from mlflow_server.tls import check_certificate

DEFAULT_PORT = 5000


@dataclass(frozen=True)
class ServerSettings:
    """A tracking server's settings.

    Attributes:
        data: folder of everything that the server keeps itself: secrets, its log, and by default the database
            and the artifacts.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        database: sqlite:///PATH or postgresql://…; None for an SQLite file in `data`.
        artifacts: folder or s3://BUCKET/PREFIX; None for a folder in `data`. Clients never see it: the server
            passes files through.
        authentication: True if requests need an account; None to require one where others can reach the
            address.
        names: further host names by which the server may be addressed.
        workers: number of processes that answer.
        tls: files of a certificate and of its key; None to serve unencrypted.
    """

    data: Path
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    database: str | None = None
    artifacts: str | None = None
    authentication: bool | None = None
    names: tuple[str, ...] = ()
    workers: int = 1
    tls: tuple[Path, Path] | None = None

    def resolved(self) -> "ServerSettings":
        """Return the same settings with every choice made and every path absolute.

        Raises:
            SettingError: a setting cannot be used, such as an open address without authentication.
        """
        data = self.data.expanduser().absolute()
        alone = is_loopback(self.host)
        if not alone and self.authentication is False:
            raise SettingError(
                f"--host {self.host} can be reached by others, so the server starts there only with "
                f"authentication; leave authentication on, or listen on {LOOPBACK}"
            )
        allowed_hosts(self.host, self.port, self.names)
        if self.workers < 1:
            raise SettingError(f"--workers must be at least 1, got {self.workers}")
        if self.tls is not None:
            check_certificate(*self.tls)
        return ServerSettings(
            data=data,
            host=self.host,
            port=self.port,
            database=resolve_database(self.database or sqlite_address(data / "mlflow.db")),
            artifacts=resolve_artifacts(self.artifacts or str(data / "artifacts")),
            authentication=not alone if self.authentication is None else self.authentication,
            names=self.names,
            workers=self.workers,
            tls=None if self.tls is None else (self.tls[0].absolute(), self.tls[1].absolute()),
        )
