"""What a command that fails leaves of a store that it made."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.tracking import connect
from sweeps.tracking.unused import no_unused_store


def listing(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*")) if home.exists() else ["no home"]


def fail(inside: Callable[[], object] = lambda: None) -> None:
    @no_unused_store()
    def run() -> None:
        inside()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_an_unused_store_is_removed(tmp_path: Path) -> None:
    fail(connect)
    assert listing(tmp_path / "home") == ["no home"]
    fail()
    assert listing(tmp_path / "home") == ["no home"]


def test_other_files_in_the_home_stay(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    fail(connect)
    assert listing(tmp_path / "home") == []
    fail(lambda: (connect(), (tmp_path / "home" / "sweeps").mkdir()))
    assert listing(tmp_path / "home") == ["sweeps"]


FILLED: dict[str, Callable[[MlflowClient], object]] = {
    "experiment": lambda client: client.create_experiment("arsvd-digits", "file:///tmp/nowhere"),
    "run": lambda client: client.create_run("0"),
    "model": lambda client: client.create_registered_model("arsvd-digits"),
}


@pytest.mark.parametrize("fill", FILLED.values(), ids=FILLED)
def test_a_store_with_anything_in_it_stays(tmp_path: Path, fill: Callable[[MlflowClient], object]) -> None:
    fail(lambda: fill(connect()))
    assert listing(tmp_path / "home") == ["mlflow.db", "mlflow.lock"]


def test_a_store_that_was_there_stays(client: MlflowClient, tmp_path: Path) -> None:
    fail(connect)
    assert "mlflow.db" in listing(tmp_path / "home")


def test_a_successful_command_leaves_its_store(tmp_path: Path) -> None:
    with no_unused_store():
        connect()
    assert listing(tmp_path / "home") == ["mlflow.db", "mlflow.lock"]
