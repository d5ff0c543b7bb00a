"""The data of a sweep: its name, what is said of it, and names that are taken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from arsvd.data import Dataset
from sweeps.cli import main
from sweeps.config import ConfigError, SweepConfig, dump_config, load_config
from sweeps.ledger.ledger import Ledger
from sweeps.run.data import load_dataset
from sweeps.run.preparing import prepare
from sweeps.run.progress import data_lines
from sweeps.run.resuming import prepare_resume
from sweeps.tracking.claiming import NameTakenError, claim_name


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def fill(folder: Path, classes: tuple[str, str] = ("cat", "dog"), count: int = 8) -> Path:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            levels = np.array([[label, i], [200, 9]], dtype=np.uint8)
            Image.fromarray(levels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def config(new_config: Callable[..., SweepConfig]) -> Callable[..., SweepConfig]:
    def make(folder: Path, *overrides: str) -> SweepConfig:
        return new_config(
            "dataset.name=imagefolder", f"dataset.path={folder}", "dataset.validation=4", *overrides
        )

    return make


@pytest.mark.parametrize(
    ("folder", "overrides", "begins"),
    [
        ("My Pets_2024 (v1)", (), "my-pets-2024-v1-2"),
        ("Кошки", (), "imagefolder-2"),
        ("pets", ("name=trial",), "trial-2"),
        ("pets", ("dataset.label=dogs",), "dogs-2"),
    ],
)
def test_a_folders_sweep_is_named_after_it_and_not_after_the_file_it_began_with(
    tmp_path: Path, config: Callable[..., SweepConfig], folder: str, overrides: tuple[str, ...], begins: str
) -> None:
    checked = config(fill(tmp_path / folder), *overrides)
    ledger = Ledger.create(tmp_path / "home", checked, load_dataset(checked), (100, 90))
    assert ledger.facts.id.startswith(begins)
    assert ledger.config == checked


NAMES = [
    ("pets", "pets"),
    ("My Pets_2024 (v1)", "my-pets-2024-v1"),
    ("Кошки", "кошки"),
    ("猫 と 犬", "猫-と-犬"),
    ("हिन्दी", "हिन्दी"),
    ("🐱", "imagefolder"),
]


@pytest.mark.parametrize(("folder", "name"), NAMES, ids=[name for _, name in NAMES])
def test_models_are_named_after_the_folder(
    tmp_path: Path, config: Callable[..., SweepConfig], folder: str, name: str
) -> None:
    dataset = load_dataset(config(fill(tmp_path / folder)))
    assert dataset.name == name
    assert str(tmp_path) not in dataset.origin


def test_a_label_comes_before_the_folders_name(tmp_path: Path, config: Callable[..., SweepConfig]) -> None:
    dataset = load_dataset(config(fill(tmp_path / "images"), "dataset.label=кошки.v2"))
    assert (dataset.name, dataset.origin) == ("кошки.v2", "")


@pytest.mark.parametrize("label", ["a/b", "a:b", "a b", "..", "-", "'?'", "x" + 64 * "y", "[a]"])
def test_labels_that_no_address_can_hold(label: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.label: got .*, must be up to 64 letters of any script"):
        load_config("digits", [f"dataset.label={label}"])


def test_a_sweep_file_of_before_labels_still_loads_and_goes_on(tmp_path: Path, digits: Dataset) -> None:
    config = load_config("digits")
    text = dump_config(config)
    assert "  label:" not in text
    assert load_config("digits", ["dataset.label="]) == config
    ledger = Ledger.create(tmp_path / "home", config, digits, (1, 1))
    assert (ledger.path / "sweep.yaml").read_text() == text
    assert prepare_resume(ledger).dataset.hash == digits.hash


def test_two_folders_of_one_name_are_refused_before_training(
    tmp_path: Path, config: Callable[..., SweepConfig]
) -> None:
    pets = config(fill(tmp_path / "pets" / "images"))
    cars = config(fill(tmp_path / "cars" / "images", ("bus", "car")))
    prepared = prepare(pets, tmp_path / "home")
    claim_name(prepared.client, prepared.dataset)
    prepare(pets, tmp_path / "home")
    with pytest.raises(NameTakenError, match=r"arsvd-images stands for other classes, cat, .* bus, car"):
        prepare(cars, tmp_path / "home")
    prepare(config(tmp_path / "cars" / "images", "dataset.label=cars"), tmp_path / "home")
    moved = config(fill(tmp_path / "more" / "images", count=9))
    with pytest.raises(NameTakenError, match="stands for other images, from another place"):
        prepare(moved, tmp_path / "home")
    prepare(config(tmp_path / "more" / "images", "dataset.label=images"), tmp_path / "home")
    with pytest.raises(NameTakenError, match="stands for other classes"):
        prepare(config(tmp_path / "cars" / "images", "dataset.label=images"), tmp_path / "home")


def test_the_command_says_so_and_leaves_no_sweep(
    tmp_path: Path, config: Callable[..., SweepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray is not started here, though other tests of this process may have imported it
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    prepared = prepare(config(fill(tmp_path / "pets" / "images")), tmp_path / "home")
    claim_name(prepared.client, prepared.dataset)
    cars = fill(tmp_path / "cars" / "images", ("bus", "car"))
    done = CliRunner().invoke(
        main, ["sweep", "digits", "dataset.name=imagefolder", f"dataset.path={cars}", "dataset.validation=4"]
    )
    assert done.exit_code == 2
    said = done.stderr.splitlines()[-1]  # after the line that says what is loaded
    assert said.startswith("arsvd: the registered model arsvd-images stands for other classes")
    assert "dataset.label=NAME" in done.stderr
    assert not (tmp_path / "home" / "sweeps").exists()


def test_a_folders_data_is_summarised(tmp_path: Path, config: Callable[..., SweepConfig]) -> None:
    folder = fill(tmp_path / "pets")
    (folder / "cat" / "a.heic").write_bytes(b"x")
    (folder / "cat" / ".ipynb_checkpoints").mkdir()
    lines = data_lines(load_dataset(config(folder)))
    assert lines == [
        "data pets: 2 classes (cat, dog); 9 training, 4 validation and 3 test images of 1×2×2; "
        "values 0 to 200",
        f"  16 image files in {folder}",
        "  left out: 1 .heic files, 1 hidden or system files and folders",
    ]


def test_built_in_data_is_summarised_alike(digits: Dataset) -> None:
    assert data_lines(digits) == [
        "data digits: 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9); 1,150 training, 288 validation and 359 test "
        "images of 1×8×8; values 0 to 255"
    ]


def test_many_classes_are_counted(tmp_path: Path, digits: Dataset) -> None:
    from dataclasses import replace

    (line,) = data_lines(replace(digits, classes=tuple(f"c{i}" for i in range(12))))
    assert "12 classes (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more)" in line
