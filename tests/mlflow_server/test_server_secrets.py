"""The administrator's password and its neighbours: made once, for one pair of eyes."""

import configparser
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_server import ServerError
from mlflow_server.authentication import prepare_authentication

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first = prepare_authentication(tmp_path, "sqlite:///accounts.db")
    again = prepare_authentication(tmp_path, "sqlite:///accounts.db")
    assert (first.new, again.new) == (True, False)
    assert first.environment == again.environment
    assert first.password_file == tmp_path / "admin-password"
    password = first.password_file.read_text().strip()
    assert password == first.environment[PASSWORD]
    assert len(password) >= 32
    assert password != first.environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "admin-password",
        "authentication.ini",
        "secret-key",
    ]
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "disk full"])
@pytest.mark.parametrize("size", [0, 1, 20, 32, 100])
def test_a_first_start_that_is_cut_leaves_whole_secrets_or_none(
    size: int, killed: bool, tmp_path: Path, in_child: Callable[..., int]
) -> None:
    def work() -> object:
        return prepare_authentication(tmp_path, "sqlite:///accounts.db")

    assert in_child(work, size, killed) != 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name[0] != "."}
    assert all(len(text.strip()) >= 32 for text in made.values())
    second = prepare_authentication(tmp_path, "sqlite:///accounts.db")
    assert second.new == ("admin-password" not in made)
    assert {name: (tmp_path / name).read_text() for name in made} == made
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "admin-password",
        "authentication.ini",
        "secret-key",
    ]


def test_each_folder_has_its_own(tmp_path: Path) -> None:
    passwords = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        passwords.add(prepare_authentication(tmp_path / name, "sqlite:///x").environment[PASSWORD])
    assert len(passwords) == 2


def test_a_database_password_with_escapes_survives_the_configuration(tmp_path: Path) -> None:
    uri = "postgresql://bob:p%40s%25s@db.example/mlflow"
    found = configparser.ConfigParser()
    found.read(prepare_authentication(tmp_path, uri).environment["MLFLOW_AUTH_CONFIG_PATH"])
    assert found["mlflow"]["database_uri"] == uri
    assert found["mlflow"]["default_permission"] == "READ"
    assert "admin_password" not in found["mlflow"]


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620])
def test_a_password_that_others_can_read_is_refused(loose: int, tmp_path: Path) -> None:
    path = prepare_authentication(tmp_path, "sqlite:///x").password_file
    path.chmod(loose)
    with pytest.raises(ServerError, match=rf"can be read by other users \(mode {loose:04o}\): chmod 600 /"):
        prepare_authentication(tmp_path, "sqlite:///x")


@pytest.mark.parametrize(("text", "length"), [("", 0), ("\n", 0), ("short\n", 5)])
def test_a_password_file_without_a_password(text: str, length: int, tmp_path: Path) -> None:
    path = prepare_authentication(tmp_path, "sqlite:///x").password_file
    path.write_text(text)
    with pytest.raises(ServerError, match=rf"admin-password holds {length} characters, a secret needs 12"):
        prepare_authentication(tmp_path, "sqlite:///x")


def test_a_chosen_password_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "admin-password"
    path.touch(0o600)
    path.write_text("correct horse battery\n")
    assert prepare_authentication(tmp_path, "sqlite:///x").environment[PASSWORD] == "correct horse battery"
