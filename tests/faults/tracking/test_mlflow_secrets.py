"""Passwords of the tracking server stay where the user has put them."""

import base64
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

USER, SECRET = "admin", "swordfish-pa55"
ACCOUNTS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/accounts.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@pytest.fixture
def ray_logs() -> Iterator[Path]:
    """A folder of Ray's own, with a path short enough for its sockets."""
    folder = Path(tempfile.mkdtemp(prefix="arsvd-ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed_server(new_server: Any) -> Any:
    """A tracking server that asks for name and password."""
    server = new_server("server")
    accounts = server.folder.parent / "accounts"
    accounts.mkdir()
    (accounts / "auth.ini").write_text(ACCOUNTS.format(folder=accounts))
    server.start(
        "--app-name",
        "basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(accounts / "auth.ini"),
        MLFLOW_AUTH_ADMIN_PASSWORD=SECRET,
        MLFLOW_FLASK_SERVER_SECRET_KEY="of-the-test",
    )
    return server


def holding(folder: Path, secrets: list[bytes]) -> list[str]:
    """Files under a folder that hold one of the secrets; at least ten are read."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) >= 10, files
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.parametrize("place", ["address", "environment"])
def test_no_secret_is_written_anywhere(
    place: str, home: Any, closed_server: Any, ray_logs: Path, small: tuple[str, ...]
) -> None:
    server = closed_server
    inside = server.uri.replace("//", f"//{USER}:{SECRET}@")
    names = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": SECRET}
    right = {"MLFLOW_TRACKING_URI": inside}
    if place == "environment":
        right = {"MLFLOW_TRACKING_URI": server.uri, **names}
    home.variables |= {**right, "RAY_TMPDIR": str(ray_logs)}
    command = ("sweep", "digits", "search.trials=3", "select.max_drop=0.5", *small)
    said = [*home.run(*command)]
    ledger = home.ledger
    said += [*home.run("sync", ledger.facts.id), *home.run("show", ledger.facts.id)]
    said += [*home.run("best", "digits"), *home.run("ui")]

    # where something is wrong the address is named; the password is not
    for name in names:
        home.variables.pop(name, None)
    home.variables["MLFLOW_TRACKING_URI"] = server.uri.replace("//", f"//{USER}:not-{SECRET}@")
    refused = home.run(*command, status=2)
    assert "refused access" in refused[1]
    server.stop()
    home.variables |= right
    away = home.run("sync", ledger.facts.id, status=2)
    assert server.uri in away[1]
    said += [*refused, *away]

    basic = base64.b64encode(f"{USER}:{SECRET}".encode())
    secrets = [SECRET.encode(), basic.rstrip(b"=")[:-1]]
    printed = "\n".join(said)
    assert not [secret for secret in secrets if secret.decode() in printed]
    assert holding(home.path, secrets) == []
    assert holding(ray_logs, secrets) == []
    assert (server.folder / "mlflow.db").is_file()
    assert holding(server.folder, secrets) == []  # database, artifacts, log


def test_the_search_for_secrets_finds_them(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).write_bytes(b"\x00" + SECRET.encode() if number == 7 else b"")
    assert holding(tmp_path, [SECRET.encode()]) == [str(tmp_path / "7")]
