"""Where sweep directories live: a folder, or a prefix of an S3 bucket. Files are written whole or not."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arsvd.files.opening import open_file

S3 = "s3://"
_DRAFT = re.compile(r"\..+\.[a-z0-9_]{8}")  # names that `Folder.write` gives to unfinished files
_DRAFT_SECONDS = 3600  # a write takes less, even on a slow file system


class StorageError(OSError):
    """A file cannot be written or reached; the message names it and the system's reason."""


class LocationError(ValueError):
    """A location that no storage supports; the message says which ones are supported."""


class Storage(ABC):
    """A directory of files, which may lie on another machine.

    Promises: `write` replaces a file as a whole, so a reader finds the old content or the new one; failures
    to write or reach a file raise `StorageError`, and a missing file `FileNotFoundError`. Names are relative
    to the directory, with slashes between their parts. Files whose name begins with a dot are being written
    and are never listed.
    """

    @abstractmethod
    def locate(self, name: str = "") -> str:
        """Return the name of a file for people: its path or address."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's content."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file; its folder is created where it is missing."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""

    @abstractmethod
    def modified(self, name: str) -> float:
        """Return when a file was last written, in seconds since 1970."""

    @abstractmethod
    def files(self, folder: str) -> list[str]:
        """List the names of the files in a folder, without the folder; empty where it does not exist."""

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """List the names of the folders in a folder, without the folder; empty where it does not exist."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Remove a folder and all its content, if it exists. What cannot be removed stays."""

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Give a file another name, replacing any file of that name."""

    @abstractmethod
    def local(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Yield a local file with a file's content, to be read only."""

    @abstractmethod
    def arrow(self) -> tuple[str, Any]:
        """Return the directory for pyarrow: its path, and its file system (None: this machine's)."""

    def drop_drafts(self) -> None:  # noqa: B027 - nothing to do where files only appear when they are whole
        """Remove what processes left behind that were killed while they wrote."""

    def set_aside(self, name: str) -> str:
        """Rename a damaged file to NAME.damaged, or NAME.damaged-2 and so on, and return that name."""
        number, new = 1, f"{name}.damaged"
        while self.exists(new):
            number += 1
            new = f"{name}.damaged-{number}"
        self.rename(name, new)
        return new


class Folder(Storage):
    """A folder of this machine, or of a file system that several machines share.

    Args:
        path: path of the folder; it is created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def locate(self, name: str = "") -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        with _named("read", self.locate(name)), open_file(self.path / name) as file:
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        with _named("write", str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide it from other users of a cluster
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def drop_drafts(self) -> None:
        old = time.time() - _DRAFT_SECONDS
        for path in self.path.rglob(".*"):
            with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
                if _DRAFT.fullmatch(path.name) and path.stat().st_mtime < old:
                    path.unlink()

    def exists(self, name: str) -> bool:
        with _named("read", self.locate(name)):
            return (self.path / name).is_file()

    def modified(self, name: str) -> float:
        with _named("read", self.locate(name)):
            return (self.path / name).stat().st_mtime

    def files(self, folder: str) -> list[str]:
        return self._listed(folder, files=True)

    def folders(self, folder: str) -> list[str]:
        return self._listed(folder, files=False)

    def _listed(self, folder: str, files: bool) -> list[str]:
        with _named("list", self.locate(folder)):
            try:
                entries = list((self.path / folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []
            fits = Path.is_file if files else Path.is_dir
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and fits(entry))

    def remove(self, name: str) -> None:
        with _named("remove", self.locate(name)):
            (self.path / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self.path / name, ignore_errors=True)

    def rename(self, name: str, new: str) -> None:
        with _named("rename", self.locate(name)):
            os.replace(self.path / name, self.path / new)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self.path / name

    def arrow(self) -> tuple[str, Any]:
        return str(self.path.absolute()), None


class Bucket(Storage):
    """A prefix of an S3 bucket, through pyarrow, with credentials, region and endpoint from AWS's variables.

    An object appears when its upload is complete, so a reader never finds half of one. A rename is a copy and
    a removal: a crash in between leaves both names.

    Args:
        uri: address of the form s3://bucket/prefix.

    Raises:
        LocationError: it names no bucket, or holds credentials.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if "@" in parts.netloc:
            # not repeated in the message: it would end up in logs
            raise LocationError(
                "an s3:// address must not hold credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if not parts.netloc or parts.query or parts.fragment:
            raise LocationError(f"an S3 location is s3://bucket/prefix, got {uri!r}")
        self._root = "/".join(part for part in [parts.netloc, *parts.path.split("/")] if part)
        self._fs = _s3(parts.netloc)

    def locate(self, name: str = "") -> str:
        return S3 + self._at(name)

    def read(self, name: str) -> bytes:
        with _named("read", self.locate(name)), self._fs.open_input_stream(self._at(name)) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        with _named("write", self.locate(name)), self._fs.open_output_stream(self._at(name)) as stream:
            stream.write(content)

    def exists(self, name: str) -> bool:
        return bool(self._info(name).is_file)

    def modified(self, name: str) -> float:
        info = self._info(name)
        if not info.is_file:
            raise FileNotFoundError(self.locate(name))
        return float(info.mtime_ns) / 1e9

    def files(self, folder: str) -> list[str]:
        return [info.base_name for info in self._listed(folder) if info.is_file]

    def folders(self, folder: str) -> list[str]:
        return [info.base_name for info in self._listed(folder) if not info.is_file]

    def remove(self, name: str) -> None:
        with _named("remove", self.locate(name)), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._fs.delete_dir(self._at(name))

    def rename(self, name: str, new: str) -> None:
        with _named("rename", self.locate(name)):
            self._fs.move(self._at(name), self._at(new))

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with scratch_folder() as folder:
            path, content = folder / name.rpartition("/")[2], self.read(name)
            with _named("write", str(path)):
                path.write_bytes(content)
            yield path

    def arrow(self) -> tuple[str, Any]:
        return self._root, self._fs

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _info(self, name: str) -> Any:
        with _named("reach", self.locate(name)):
            return self._fs.get_file_info(self._at(name))

    def _listed(self, folder: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        with _named("list", self.locate(folder)):
            found = self._fs.get_file_info(FileSelector(self._at(folder), allow_not_found=True))
        return sorted((i for i in found if not i.base_name.startswith(".")), key=lambda i: i.base_name)


def open_storage(location: Path | str) -> Storage:
    """Open the storage at a path or an address.

    Args:
        location: folder, or s3://bucket/prefix.

    Raises:
        LocationError: it is neither.
    """
    if isinstance(location, Path):
        return Folder(location)
    if location.startswith(S3):
        return Bucket(location)
    if "://" in location:
        scheme = location.split("://", 1)[0]
        raise LocationError(f"a location is a folder or s3://bucket/prefix, got one of the kind {scheme}://")
    return Folder(Path(location))


def file_sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder of this machine, which is removed at the end.

    Raises:
        StorageError: the folder cannot be created.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="arsvd-")
    except OSError as error:  # including FileNotFoundError, which here does not mean a file of a storage
        where = error.filename or "a folder for temporary files"
        raise StorageError(f"cannot write {where}: {_reason(error)}") from error
    with made as folder:
        yield Path(folder)


@contextlib.contextmanager
def _named(deed: str, where: str) -> Iterator[None]:
    """Name the file in every error of the system."""
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except OSError as error:
        raise StorageError(f"cannot {deed} {where}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split())


def _s3(bucket: str) -> Any:
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is None:
        with _named("reach", S3 + bucket):
            return S3FileSystem(region=region or resolve_s3_region(bucket))
    scheme, _, host = endpoint.rpartition("://")
    return S3FileSystem(
        endpoint_override=host.rstrip("/"), scheme=scheme or "https", region=region or "us-east-1"
    )
