"""Where the files of runs and models are kept: a folder of this machine, or a bucket."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow_server.errors import ServerError, SettingError

_CONNECT_SECONDS = 5


def resolve_artifacts(place: str) -> str:
    """Return the location of artifacts in MLflow's notation.

    Args:
        place: folder, as a path or a file:// address, or s3://BUCKET/PREFIX.

    Raises:
        SettingError: the address is of another kind.
    """
    parts = urlsplit(place)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise SettingError(f"--artifacts {place!r} names no bucket; write s3://BUCKET/PREFIX")
        return place
    if parts.scheme == "file":
        return Path(unquote(parts.path)).as_uri()
    if parts.scheme and "://" in place:
        raise SettingError(f"--artifacts {place!r} cannot be used: give a folder or s3://BUCKET/PREFIX")
    return Path(place).expanduser().absolute().as_uri()


def check_artifacts(uri: str) -> None:
    """Make sure that files can be kept there.

    Args:
        uri: location that `resolve_artifacts` returned. A missing folder is created, a missing bucket is not.

    Raises:
        ServerError: the folder cannot be written, boto3 is missing, or the bucket cannot be used.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        _check_bucket(parts.netloc)
        return
    folder = Path(unquote(parts.path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"the artifact folder {folder} cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServerError(f"the artifact folder {folder} cannot be written by this user")


def _check_bucket(bucket: str) -> None:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ServerError("artifacts on S3 need boto3: pip install boto3") from None
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    settings = Config(
        connect_timeout=_CONNECT_SECONDS, read_timeout=_CONNECT_SECONDS, retries={"total_max_attempts": 2}
    )
    try:
        boto3.client("s3", endpoint_url=endpoint, config=settings).head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError, ValueError) as error:
        where = f" at {endpoint}" if endpoint else ""
        raise ServerError(
            f"the bucket {bucket!r}{where} cannot be used ({error}); it must exist, and AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY (or a role) must allow listing, reading and writing; "
            "MLFLOW_S3_ENDPOINT_URL names a store other than AWS"
        ) from None
