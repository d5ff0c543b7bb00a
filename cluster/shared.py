"""Prove that every node of a cluster reads and writes the same directory as the driver."""

import contextlib
import os
import secrets
import time
from typing import Any

from cluster.errors import ClusterError

_APPEAR_SECONDS = 15  # network file systems show another machine's file late
_NODE_SECONDS = 90
_S3 = "s3://"
_S3_SECONDS = 10
_REMEDY = (
    "keep sweeps where every node can reach them: ARSVD_HOME (or --home) on storage that all nodes mount at "
    "the same path, or s3://BUCKET/PREFIX"
)


class SharedStorageError(ClusterError):
    """A node of the cluster does not see the driver's files, or the driver not the node's."""


def check_shared_storage(path_or_uri: str) -> None:
    """Make sure that a directory is the same one on every node; Ray must be running.

    The driver writes a file with a random content, each other node reads it and writes its own, and the
    driver reads that. Nothing is left behind. On one node there is nothing to prove, only that the driver can
    write.

    Args:
        path_or_uri: an absolute path, or `s3://BUCKET/PREFIX`.

    Raises:
        SharedStorageError: naming the node and the reason.
    """
    import ray

    token = secrets.token_hex(16)
    name = f".probe-{token}"
    node_id = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != node_id]
    names = [f"{name}-{node['NodeID'][:12]}" for node in others]
    try:
        folder = _Folder(path_or_uri)
        folder.make()
        folder.write(name, token)
    except Exception as error:
        raise SharedStorageError(f"nothing can be written to {path_or_uri} here: {_reason(error)}") from None
    try:
        for node, answer in zip(others, names, strict=True):
            where = f"node {node['NodeID'][:12]} at {node['NodeManagerAddress']}"
            said = _ask(path_or_uri, name, answer, token, node["NodeID"], where)
            if said is not None:
                raise SharedStorageError(f"{where} {said}; {_REMEDY}")
            if not folder.shows(answer, token):
                raise SharedStorageError(
                    f"{where} has written to {path_or_uri}, which does not show here: it is another "
                    f"directory there; {_REMEDY}"
                )
    finally:
        for one in (name, *names):
            with contextlib.suppress(Exception):
                folder.remove(one)


class _Folder:
    """A directory on a path or in a bucket."""

    def __init__(self, path_or_uri: str) -> None:
        from pyarrow import fs

        self._in_bucket = path_or_uri.startswith(_S3)
        if self._in_bucket:
            self._root = path_or_uri.removeprefix(_S3).strip("/")
            self._files = _s3(self._root.partition("/")[0])
        else:
            self._root = path_or_uri
            self._files = fs.LocalFileSystem()

    @property
    def missing(self) -> bool:
        """Whether there is no such directory; a bucket has none, only names of objects."""
        return not self._in_bucket and not os.path.isdir(self._root)

    def make(self) -> None:
        """Create the directory. The driver alone does: on a node without the mount it would be litter."""
        if not self._in_bucket:
            self._files.create_dir(self._root, recursive=True)

    def write(self, name: str, text: str) -> None:
        with self._files.open_output_stream(f"{self._root}/{name}") as stream:
            stream.write(text.encode())

    def shows(self, name: str, text: str) -> bool:
        """Tell if a file with this content appears within the time that network file systems take."""
        end = time.monotonic() + _APPEAR_SECONDS
        while True:
            with (
                contextlib.suppress(FileNotFoundError),
                self._files.open_input_stream(f"{self._root}/{name}") as stream,
            ):
                return bool(stream.read().decode() == text)
            if time.monotonic() > end:
                return False
            time.sleep(0.2)

    def remove(self, name: str) -> None:
        self._files.delete_file(f"{self._root}/{name}")


def _ask(path_or_uri: str, name: str, answer: str, token: str, node_id: str, where: str) -> str | None:
    """Have a node look; returns what is wrong there, or None."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned: Any = ray.remote(num_cpus=0, max_retries=0)(_look).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
    )
    reference = pinned.remote(path_or_uri, name, answer, token)
    try:
        said: str | None = ray.get(reference, timeout=_NODE_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        raise SharedStorageError(f"{where} did not look at {path_or_uri} within {_NODE_SECONDS} s") from None
    except ray.exceptions.RayError as error:
        if "No module named" in str(error):
            raise SharedStorageError(
                f"{where} has no arsvd installed: install it there as here, or use `arsvd submit`, which "
                "takes it along"
            ) from None
        raise SharedStorageError(f"{where} could not look at {path_or_uri}: {_reason(error)}") from None
    return said


def _look(path_or_uri: str, name: str, answer: str, token: str) -> str | None:
    try:
        folder = _Folder(path_or_uri)
        if not folder.shows(name, token):
            if folder.missing:
                return f"has no such directory as {path_or_uri}: it is not shared"
            return f"does not see the file that was just written to {path_or_uri}: it is not shared"
        folder.write(answer, token)
    except Exception as error:
        return f"cannot use {path_or_uri}: {_reason(error)}"
    return None


def _s3(bucket: str) -> Any:
    """Open S3 as AWS's own variables say, endpoints of other makers included."""
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    limits = {"connect_timeout": _S3_SECONDS, "request_timeout": _S3_SECONDS}
    if endpoint is None:
        return fs.S3FileSystem(region=region or fs.resolve_s3_region(bucket), **limits)
    scheme, _, host = endpoint.rpartition("://")
    return fs.S3FileSystem(
        endpoint_override=host.rstrip("/"), scheme=scheme or "https", region=region or "us-east-1", **limits
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
