"""A home with any name, moved, copied or reached by a link."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_server import SettingError
from mlflow_server.sqlite import sqlite_address, sqlite_file
from sweeps.ledger.records import Front
from sweeps.tracking import ModelData, SweepWriter, connect, find_best, load_best, log_front, set_aliases

ODD = "a?b %20#é&c=d"


@pytest.fixture(scope="module")
def fill(front: Front, models, data: ModelData) -> Callable[[], None]:
    """Put the first model of a front into the store of the home that the environment names."""

    def run() -> None:
        client = connect()
        writer = SweepWriter(client)
        run_id = writer.start(
            sweep="digits-1", dataset="digits", params={}, reference_params=1_274, data_hash=data.hash
        )
        log_front(
            client, run_id, replace(front, points=front.points[:1]), lambda entry: models[entry.key], data
        )
        set_aliases(client, "digits", max_drop=0.01)

    return run


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, _empty_store: bytes, fill: Callable) -> Path:
    folder = tmp_path_factory.mktemp("moving") / "project"
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "mlflow.db").write_bytes(_empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARSVD_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fill()
    return folder


def named(store: Path, text: str) -> list[str]:
    """Return every column of a store in which a text stands."""
    with sqlite3.connect(store) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return [
            f"{table}.{column[1]}"
            for table in tables
            for column in database.execute(f"pragma table_info({table})").fetchall()
            if database.execute(
                f"select 1 from {table} where instr(cast({column[1]} as text), ?)", (text,)
            ).fetchone()
        ]


@pytest.mark.parametrize("name", ["project 2", ODD])
def test_a_folder_that_was_moved_loads_its_models_and_goes_on_in_its_new_place(
    filled: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: Front, models, data
) -> None:
    before, now = tmp_path / "before", tmp_path / name
    shutil.copytree(filled, before)
    monkeypatch.setenv("ARSVD_HOME", str(before / "home"))
    connect()  # follows the copy
    before.rename(now)
    monkeypatch.setenv("ARSVD_HOME", str(now / "home"))
    assert load_best("digits", alias="smallest") is not None
    assert named(now / "home" / "mlflow.db", str(before)) == []
    client = connect()
    assert find_best("digits", alias="smallest").sweep == "digits-1"
    writer = SweepWriter(client)
    run_id = writer.start(
        sweep="digits-1", dataset="digits", params={}, reference_params=1_274, data_hash=data.hash
    )
    log_front(client, run_id, front, lambda entry: models[entry.key], data)
    assert len(client.search_model_versions("name='arsvd-digits'")) == 3
    assert not before.exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_plain_mlflow_loads_from_a_folder_that_was_moved_once_arsvd_has_opened_it(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "is it here?" / "home"
    shutil.copytree(filled / "home", home)
    monkeypatch.setenv("ARSVD_HOME", str(home))
    uri = connect().tracking_uri
    monkeypatch.chdir(tmp_path)
    line = (
        f"import mlflow; mlflow.set_tracking_uri({uri!r}); "
        "print(type(mlflow.pytorch.load_model('models:/arsvd-digits@smallest')).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_copy_reads_its_own_files_and_leaves_the_original_alone(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (filled / "home" / "mlflow.db").read_bytes()
    copy = tmp_path / "copy"
    shutil.copytree(filled, copy)
    monkeypatch.setenv("ARSVD_HOME", str(copy / "home"))
    (version,) = connect().search_model_versions("name='arsvd-digits'")
    assert version.source.startswith((copy / "home" / "artifacts").as_uri())
    assert (filled / "home" / "mlflow.db").read_bytes() == before


def test_a_link_changes_nothing(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    shutil.copytree(filled, folder)
    link.symlink_to(folder)
    monkeypatch.setenv("ARSVD_HOME", str(folder / "home"))
    connect()
    monkeypatch.setenv("ARSVD_HOME", str(link / "home"))
    (version,) = connect().search_model_versions("name='arsvd-digits'")
    assert version.source.startswith((folder / "home" / "artifacts").as_uri())
    assert load_best("digits", alias="smallest") is not None


def test_places_that_a_user_chose_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client) -> None:
    elsewhere = (tmp_path / "elsewhere").as_uri()
    number = client.create_experiment("mine", elsewhere)
    (tmp_path / "home").rename(tmp_path / "new")
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "new"))
    assert connect().get_experiment(number).artifact_location == elsewhere


def test_a_home_of_any_name_holds_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable
) -> None:
    home = tmp_path / ODD / "home"
    monkeypatch.setenv("ARSVD_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    fill()
    assert load_best("digits", alias="smallest") is not None
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert {path.name for path in home.iterdir()} == {"mlflow.db", "mlflow.lock", "artifacts"}
    assert connect().get_experiment("0").artifact_location == (home / "artifacts" / "Default").as_uri()


@pytest.mark.parametrize("name", ["plain", "a b", "a?b", "a%20b", "a%b", "a#b", "é", "a&b=c", "?", "%"])
def test_an_address_names_its_file_and_no_folder_beside_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "mlflow.db"
    address = sqlite_address(path)
    assert sqlite_file(address) == path
    # the folder that MLflow makes of what it takes for a path
    made = Path(address.removeprefix("sqlite:///")).parent
    assert made in (path.parent, Path("."))


def test_an_sqlalchemy_that_cannot_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow_server.sqlite.sqlite_file", lambda address: tmp_path / "other")
    with pytest.raises(SettingError, match=r"holds '\?' or '%', which needs SQLAlchemy 2.1"):
        sqlite_address(tmp_path / "a?b" / "mlflow.db")
    assert sqlite_address(tmp_path / "mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
