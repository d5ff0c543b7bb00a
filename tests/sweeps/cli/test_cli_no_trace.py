"""Commands that read, and commands that are refused, leave nothing behind: no folder, store or sweep."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from sweeps.cli import main

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts all the same would be waited for."""

    def started(*arguments: object, **keywords: object) -> None:
        pytest.fail("a server was started")

    monkeypatch.setattr("mlflow_server.ui.browse", started)
    monkeypatch.setattr("mlflow_server.serving.running", started)


# name: arguments, exit status, the text that must be in what is said
READING: dict[str, tuple[list[str], int, str]] = {
    "list": (["list"], 0, "no sweeps in"),
    "list as JSON": (["list", "--json"], 0, "[]"),
    "show": (["show", "digits"], 2, "there is no sweep 'digits'"),
    "sync": (["sync", "digits"], 2, "there is no sweep 'digits'"),
    "resume": (["resume", "digits"], 2, "there is no sweep 'digits'"),
    "validate": (["validate", "digits"], 0, "name: digits"),
    "best": (["best", "digits"], 2, "no sweep has registered any model yet"),
    "best by size": (["best", "digits", "--max-params", "9"], 2, "no sweep has registered any model yet"),
    "ui": (["ui"], 2, "there is nothing to browse"),
    "jobs": (["jobs"], 2, "which cluster?"),
}


@pytest.mark.parametrize("uri", [None, "sqlite:///{folder}/elsewhere.db"], ids=["embedded", "named"])
@pytest.mark.parametrize(("arguments", "status", "text"), READING.values(), ids=READING)
def test_a_command_that_reads_makes_nothing(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    text: str,
    uri: str | None,
) -> None:
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=workplace))
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == status, said.output
    assert text in said.output
    assert list(workplace.iterdir()) == []


def test_loading_makes_nothing(workplace: Path) -> None:
    from sweeps import NoModelError, load_best

    with pytest.raises(NoModelError, match="no sweep has registered any model yet in sqlite:///"):
        load_best("digits", tracking_uri=f"sqlite:///{workplace / 'other.db'}")
    assert list(workplace.iterdir()) == []


# name: what is wrong with the data
FOLDERS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a file": lambda path: path.touch(),
    "empty": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS)
def test_a_sweep_of_a_refused_folder_makes_nothing(
    refused: Refused, workplace: Path, make: Callable[[Path], object]
) -> None:
    make(workplace / "pets")
    before = set(workplace.rglob("*"))
    refused("sweep", "digits", "dataset.name=imagefolder", f"dataset.path={workplace / 'pets'}")
    assert set(workplace.rglob("*")) == before


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_sweep_on_a_cluster_that_cannot_be_reached_makes_nothing(
    refused: Refused, workplace: Path, address: str
) -> None:
    assert address in refused("sweep", "digits", "--address", address)
    assert list(workplace.iterdir()) == []


def test_a_sweep_is_refused_where_its_experiment_was_deleted(refused: Refused, store: Path) -> None:
    client = MlflowClient(f"sqlite:///{store}")
    client.delete_experiment(client.create_experiment("arsvd-digits"))
    assert "the experiment 'arsvd-digits' was deleted in MLflow" in refused("sweep", "digits")
    assert not (store.parent / "sweeps").exists()


# name: variable, arguments
NOBODY: dict[str, tuple[str, list[str]]] = {
    **{
        f"home of {arguments[0]}": ("ARSVD_HOME", arguments)
        for arguments in (
            ["list"],
            ["show", "x"],
            ["resume", "x"],
            ["sync", "x"],
            ["best", "digits"],
            ["ui"],
            ["server"],
            ["sweep", "digits"],
        )
    },
    "data": ("ARSVD_DATA", ["sweep", "mnist"]),
    "data to fetch": ("ARSVD_DATA", ["data", "mnist"]),
    "database": ("ARSVD_DB", ["server"]),
}


@pytest.mark.parametrize(("variable", "arguments"), NOBODY.values(), ids=NOBODY)
def test_variables_with_the_home_of_an_unknown_user_are_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, variable: str, arguments: list[str]
) -> None:
    prefix = "sqlite:///" if variable == "ARSVD_DB" else ""
    monkeypatch.setenv(variable, f"{prefix}~nosuchuser/place")
    refused_in_words(workplace, arguments, "~nosuchuser")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "mnist", "--data-dir", "~nosuchuser/data"],
        ["data", "mnist", "--data-dir", "~nosuchuser/data"],
        ["sweep", "digits", "dataset.name=imagefolder", "dataset.path=~nosuchuser/pets"],
        ["sweep", "~nosuchuser/sweep.yaml"],
        ["best", "digits", "--export", "~nosuchuser/best.safetensors"],
        ["compress", "~nosuchuser/model.pt2", "-o", "small.pt2", "--energy", "0.9"],
        ["server", "--data", "~nosuchuser/server"],
        ["server", "--db", "sqlite:///~nosuchuser/mlflow.db"],
        ["server", "--artifacts", "~nosuchuser/artifacts"],
        ["server", "--tls-certificate", "~nosuchuser/cert", "--tls-key", "~nosuchuser/key"],
    ],
    ids=lambda arguments: " ".join(word for word in arguments if "nosuchuser" not in word),
)
def test_arguments_with_the_home_of_an_unknown_user_are_refused(
    workplace: Path, arguments: list[str]
) -> None:
    refused_in_words(workplace, arguments, "~nosuchuser")


def refused_in_words(workplace: Path, arguments: list[str], text: str) -> None:
    said = CliRunner().invoke(main, arguments)
    assert (said.exit_code, said.stdout) == (2, ""), (said.exception, said.output)
    assert text in said.stderr
    assert "Traceback" not in said.stderr
    assert list(workplace.iterdir()) == []
