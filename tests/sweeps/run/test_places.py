"""A sweep remembers where its data were, and says in which places they are not."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arsvd.data import DataError
from sweeps.config import SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.run.places import PLACE, DataPlace, find_data
from sweeps.run.preparing import Prepared, ResumeError, prepare
from sweeps.run.resuming import prepare_resume, resume_line

Begin = Callable[..., Ledger]
MNIST_FILES = {"images-idx3-ubyte": (30, 6, 6), "labels-idx1-ubyte": (30,)}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; what is called data is anywhere else."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARSVD_DATA", str(tmp_path / "default"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("sweeps.run.preparing.client_for", "sweeps.run.resuming.client_for"):
        monkeypatch.setattr(name, lambda dataset: None)
    return work


@pytest.fixture
def begin(tmp_path: Path, new_config: Callable[..., SweepConfig]) -> Begin:
    """Do what a run does with data before it trains: `begin("dataset.name=mnist", data_dir=…)`."""

    def run(*overrides: str, data_dir: Path | None = None, remembers: bool = True) -> Ledger:
        prepared: Prepared = prepare(new_config(*overrides), tmp_path / "home", data_dir)
        ledger = Ledger.create(tmp_path / "home", prepared.config, prepared.dataset, (99, 99))
        if remembers:
            assert prepared.place is not None
            prepared.place.write(ledger)
        return ledger

    return run


def mnist(root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for ending, shape in MNIST_FILES.items():
            count = int(np.prod(shape))
            values = (np.arange(count) * 7 % 251 if len(shape) > 1 else np.arange(count) % 10).astype(
                np.uint8
            )
            header = bytes((0, 0, 8, len(shape))) + b"".join(side.to_bytes(4, "big") for side in shape)
            (raw / f"{prefix}-{ending}").write_bytes(header + values.tobytes())
    return root


def pets(folder: Path, shade: int = 0) -> Path:
    for label, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            noise = np.random.default_rng(100 * label + number + shade).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(folder / name / f"{number}.png")
    return folder


MNIST = ("dataset.name=mnist", "dataset.validation=10")
PETS = ("name=pets", "dataset.name=imagefolder")


def test_data_are_found_where_they_were(tmp_path: Path, workplace: Path, begin: Begin) -> None:
    mnist(workplace / "data")
    ledger = begin(*MNIST, data_dir=Path("data"))
    os.chdir(tmp_path)
    prepared = prepare_resume(ledger)
    assert prepared.dataset.hash == ledger.facts.data_hash
    assert prepared.place == DataPlace(str(workplace / "data"))


def test_data_that_were_moved_are_found_as_in_any_sweep(
    tmp_path: Path, workplace: Path, begin: Begin
) -> None:
    mnist(workplace / "data")
    ledger = begin(*MNIST, data_dir=workplace / "data")
    shutil.move(workplace / "data", tmp_path / "default")
    assert prepare_resume(ledger).place == DataPlace(str(tmp_path / "default"))
    shutil.move(tmp_path / "default", tmp_path / "other")
    with pytest.raises(DataError) as missing:
        prepare_resume(ledger)
    said = str(missing.value).splitlines()[0]
    assert f"was run on data in {workplace / 'data'}, where they are no more" in said
    assert f"not in {tmp_path / 'default'} either. Say where with --data-dir." in said
    assert prepare_resume(ledger, data_dir=tmp_path / "other").place == DataPlace(str(tmp_path / "other"))
    with pytest.raises(DataError, match="nowhere"):  # what is said counts, and nothing else
        prepare_resume(ledger, data_dir=tmp_path / "nowhere")


def test_a_folder_of_images_is_found_where_it_was(tmp_path: Path, workplace: Path, begin: Begin) -> None:
    pets(workplace / "pets")
    ledger = begin(*PETS, "dataset.path=pets")
    os.chdir(tmp_path)
    pets(tmp_path / "pets", shade=1)  # others of the same name, which the path in the sweep file means here
    prepared = prepare_resume(ledger)
    assert prepared.dataset.hash == ledger.facts.data_hash
    assert prepared.place is not None
    assert prepared.place.folder == str(workplace / "pets")
    assert prepared.config.dataset.path == "pets"  # the file stays as its user wrote it


def test_a_folder_of_images_that_was_moved(tmp_path: Path, workplace: Path, begin: Begin) -> None:
    pets(workplace / "pets")
    ledger = begin(*PETS, "dataset.path=pets")
    shutil.move(workplace / "pets", tmp_path / "animals")
    with pytest.raises(DataError) as missing:
        prepare_resume(ledger)
    said = str(missing.value)
    assert f"was run on the images in {workplace / 'pets'}, where they are no more" in said
    assert str(tmp_path / "default" / "pets") in said
    override = said.rsplit(maxsplit=1)[1].replace("FOLDER", str(tmp_path / "animals"))
    prepared = prepare_resume(ledger, (override,))
    assert prepared.dataset.hash == ledger.facts.data_hash
    # from then on it is there
    assert prepared.place is not None
    ledger.write_config(prepared.config)
    prepared.place.write(ledger)
    assert prepare_resume(ledger).place == prepared.place
    # or among the data sets
    shutil.move(tmp_path / "animals", tmp_path / "sets" / "animals")
    found, place = find_data(ledger, ledger.config, tmp_path / "sets")
    assert (found.hash, place.folder) == (ledger.facts.data_hash, str(tmp_path / "sets" / "animals"))


def test_other_images_in_the_place_are_refused(workplace: Path, begin: Begin) -> None:
    pets(workplace / "pets")
    ledger = begin(*PETS, "dataset.path=pets")
    shutil.rmtree(workplace / "pets")
    pets(workplace / "pets", shade=1)
    with pytest.raises(ResumeError, match=r"content hash .* the same files \(dataset\.path=FOLDER\)"):
        prepare_resume(ledger)


def test_data_of_a_sweep_of_an_earlier_version_are_looked_for_as_in_that_version(
    tmp_path: Path, workplace: Path, begin: Begin
) -> None:
    mnist(tmp_path / "default")
    pets(workplace / "pets")
    old = [begin(*MNIST, remembers=False), begin(*PETS, "dataset.path=pets", remembers=False)]
    for ledger in old:
        assert not (ledger.path / PLACE).exists()
        assert prepare_resume(ledger).dataset.hash == ledger.facts.data_hash
    os.chdir(tmp_path)
    with pytest.raises(DataError, match=r"dataset\.path=FOLDER"):
        prepare_resume(old[1])


GOOD = {"version": 1, "root": "/data", "folder": "/pets", "said": "pets"}
# name: what is in the file
UNUSABLE: dict[str, Any] = {
    "no JSON": "{",
    "not UTF-8": b"\xff",
    "nested too deeply": "[" * 100_000,
    "a list": [GOOD],
    "another version": GOOD | {"version": 3},
    "no root": {"version": 1},
    "a relative root": GOOD | {"root": "data"},
    "a number for a root": GOOD | {"root": 3},
    "a list for a folder": GOOD | {"folder": ["/pets"]},
    "a NUL in a folder": GOOD | {"folder": "/pets\0"},
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unreadable_place_is_ignored(workplace: Path, begin: Begin, content: Any) -> None:
    pets(workplace / "pets")
    ledger = begin(*PETS, "dataset.path=pets")
    assert DataPlace.read(ledger) is not None
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (ledger.path / PLACE).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert DataPlace.read(ledger) is None
    assert prepare_resume(ledger).dataset.hash == ledger.facts.data_hash


# name: where the home is, the address, the server, the line
LINES: dict[str, tuple[str, str | None, str, str]] = {
    "the home of this folder": (".arsvd", None, "", "arsvd resume ID"),
    "another home": ("../my home", None, "", "ARSVD_HOME='{tmp}/my home' arsvd resume ID"),
    "a cluster": (".arsvd", "10.0.0.1:6379", "", "arsvd resume ID --address 10.0.0.1:6379"),
    "a server": (
        ".arsvd",
        "auto",
        "http://host:5000",
        "MLFLOW_TRACKING_URI=http://host:5000 arsvd resume ID --address auto",
    ),
    "a server with a password": (".arsvd", None, "https://me:secret@host", "arsvd resume ID"),
}


@pytest.mark.parametrize(("home", "address", "server", "line"), LINES.values(), ids=LINES)
def test_the_resume_command_works_from_any_folder(
    tmp_path: Path,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    home: str,
    address: str | None,
    server: str,
    line: str,
) -> None:
    ledger = begin()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    place = Path(os.path.normpath(Path(home).absolute()))
    shutil.copytree(ledger.path, place / "sweeps" / ledger.facts.id)
    said = resume_line(Ledger(place / "sweeps" / ledger.facts.id), address)
    expected = line.format(tmp=tmp_path).replace("ID", ledger.facts.id)
    assert said == expected
    assert shlex.split(said)


def test_the_line_of_a_sweep_in_a_bucket(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = begin().facts

    class InBucket:
        home = "s3://bucket/prefix"

    InBucket.facts = replace(facts, id="digits-1")  # type: ignore[attr-defined]
    assert resume_line(InBucket()) == "ARSVD_HOME=s3://bucket/prefix arsvd resume digits-1"  # type: ignore[arg-type]
