"""Both storages keep the same promises: a folder, and a bucket on a real S3 server."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.ledger.storage import (
    Bucket,
    Folder,
    LocationError,
    Storage,
    StorageError,
    open_storage,
    scratch_folder,
)

KINDS = ("folder", "bucket")


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "sweep")
    return open_storage(request.getfixturevalue("new_bucket")())


def test_what_is_written_is_read_back_and_replaced(storage: Storage) -> None:
    assert not storage.exists("members/a.json")
    with pytest.raises(FileNotFoundError):
        storage.read("members/a.json")
    with pytest.raises(FileNotFoundError):
        storage.modified("members/a.json")
    storage.write("members/a.json", b"1" * 3_000_000)
    first = storage.modified("members/a.json")
    storage.write("members/a.json", b"two")
    assert storage.read("members/a.json") == b"two"
    assert storage.exists("members/a.json")
    assert not storage.exists("members")
    assert storage.modified("members/a.json") >= first > 1_600_000_000
    with storage.local("members/a.json") as path:
        assert path.name == "a.json"
        assert path.read_bytes() == b"two"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "disk full"])
@pytest.mark.parametrize("size", [0, 1, 4000, 99_999])
def test_a_write_that_is_cut_leaves_what_was_there(
    size: int, killed: bool, tmp_path: Path, in_child: Callable[..., int]
) -> None:
    folder = Folder(tmp_path / "sweep")
    for before in (None, b"before"):
        if before is not None:
            folder.write("members/a.json", before)
        assert in_child(lambda: folder.write("members/a.json", b"x" * 100_000), size, killed) != 0
        assert folder.exists("members/a.json") == (before is not None)
        assert folder.files("members") == ["a.json"][: before is not None]
    assert folder.read("members/a.json") == b"before"


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path, in_child: Callable[..., int]) -> None:
    folder = Folder(tmp_path / "sweep")
    for name in ("a.json", "b.json"):
        assert in_child(lambda name=name: folder.write(f"members/{name}", b"x" * 100), size=10) < 0
    folder.write("members/.hidden", b"x")
    folder.write(".sweep.lock", b"x")
    drafts = sorted((tmp_path / "sweep" / "members").glob(".*.json.*"))
    assert len(drafts) == 2
    for path in (drafts[0], tmp_path / "sweep" / "members" / ".hidden", tmp_path / "sweep" / ".sweep.lock"):
        os.utime(path, (0, 0))
    folder.drop_drafts()  # the other one may be in the making
    left = {path.name for path in (tmp_path / "sweep").rglob(".*")}
    assert left == {drafts[1].name, ".hidden", ".sweep.lock"}


def test_files_and_folders_are_listed_without_what_is_being_written(storage: Storage) -> None:
    assert storage.files("") == storage.folders("") == storage.files("nowhere") == []
    for name in ("members/b.json", "members/a.json", "members/.a.json.x1", "report/front.csv", "sweep.yaml"):
        storage.write(name, b"x")
    assert storage.files("members") == ["a.json", "b.json"]
    assert storage.folders("") == ["members", "report"]
    assert storage.files("") == ["sweep.yaml"]
    assert storage.files("sweep.yaml") == []


def test_files_are_removed_and_renamed(storage: Storage) -> None:
    storage.write("a", b"1")
    storage.write("b", b"2")
    storage.rename("a", "b")
    assert storage.read("b") == b"1"
    assert storage.files("") == ["b"]
    storage.remove("b")
    storage.remove("b")
    assert storage.files("") == []
    storage.write("ray/x/y", b"1")
    storage.remove_folder("ray")
    storage.remove_folder("ray")
    assert storage.files("ray/x") == []


def test_damaged_files_are_set_aside_under_names_of_their_own(storage: Storage) -> None:
    places = []
    for content in (b"1", b"2", b"3"):
        storage.write("members/a.json", content)
        places.append(storage.set_aside("members/a.json"))
    assert places == ["members/a.json.damaged", "members/a.json.damaged-2", "members/a.json.damaged-3"]
    assert [storage.read(place) for place in places] == [b"1", b"2", b"3"]
    assert not storage.exists("members/a.json")


def test_a_reader_meets_the_old_content_or_the_new_one(storage: Storage) -> None:
    contents = [bytes([value]) * 200_000 for value in (1, 2)]
    storage.write("record", contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(20):
            storage.write("record", contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        assert storage.read("record") in contents
        reads += 1
    writer.join()
    assert reads > 0


# name: location, what the storage is or the error's text
LOCATIONS: dict[str, tuple[Path | str, type[Storage] | str]] = {
    "a path": (Path("/tmp/x"), Folder),
    "a path as text": ("/tmp/x", Folder),
    "a relative path": ("x", Folder),
    "another service": (
        "gs://bucket/x",
        "a location is a folder or s3://bucket/prefix, got one of the kind gs://",
    ),
    "no bucket": ("s3:///x", "an S3 location is s3://bucket/prefix, got 's3:///x'"),
    "a query": ("s3://bucket/x?region=y", "an S3 location is s3://bucket/prefix"),
    "credentials": ("s3://key:hush@bucket/x", "must not hold credentials; set AWS_ACCESS_KEY_ID"),
}


@pytest.mark.parametrize(("location", "answer"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_location_is_a_folder_or_a_bucket(location: Path | str, answer: type[Storage] | str) -> None:
    if isinstance(answer, str):
        with pytest.raises(LocationError) as caught:
            open_storage(location)
        assert answer in str(caught.value)
        assert "hush" not in str(caught.value)
    else:
        assert isinstance(open_storage(location), answer)


def test_a_bucket_that_is_not_there_is_named(new_bucket: Callable[[], str]) -> None:
    server = new_bucket().rsplit("/", 1)[0]
    storage = open_storage(f"{server}-other/prefix")
    with pytest.raises(
        StorageError, match=r"cannot write s3://.*-other/prefix/a: .*(NoSuchBucket|NO_SUCH_BUCKET)"
    ):
        storage.write("a", b"1")


def test_an_s3_server_that_does_not_answer_is_named(
    new_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot write s3://bucket/x/a: .*"):
        Bucket("s3://bucket/x").write("a", b"1")


def test_a_scratch_folder_is_gone_at_the_end() -> None:
    with scratch_folder() as folder:
        (folder / "a").write_bytes(b"1")
    assert not folder.exists()


def test_a_scratch_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setattr(tempfile, "tempdir", str(missing))
    with pytest.raises(StorageError, match=rf"^cannot write {missing}/arsvd-.*: No such file"):
        scratch_folder().__enter__()


def test_where_no_disk_takes_a_scratch_folder_the_system_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(StorageError, match=r"^cannot write a folder for temporary files: No usable temp"):
        scratch_folder().__enter__()


def test_a_copy_that_has_no_room_here_is_named(
    new_bucket: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(new_bucket())
    storage.write("a", b"1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match=r"^cannot write .*missing"), storage.local("a"):
        pass


# name: how the write is interrupted
INTERRUPTIONS: dict[str, Callable[[pytest.MonkeyPatch], type[BaseException]]] = {
    "no space left": lambda patch: fails(patch, "fsync", OSError(28, "No space left on device")),
    "cannot be renamed": lambda patch: fails(patch, "replace", PermissionError(13, "Permission denied")),
    "Ctrl-C": lambda patch: fails(patch, "fsync", KeyboardInterrupt()),
}


def fails(patch: pytest.MonkeyPatch, name: str, error: BaseException) -> type[BaseException]:
    def raising(*_: object) -> None:
        raise error

    patch.setattr(os, name, raising)
    return StorageError if isinstance(error, OSError) else type(error)


@pytest.mark.parametrize("interrupt", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[pytest.MonkeyPatch], type[BaseException]],
) -> None:
    folder = Folder(tmp_path)
    folder.write("a", b"old")
    with monkeypatch.context() as patch:
        expected = interrupt(patch)
        with pytest.raises(expected) as caught:
            folder.write("a", b"new")
    if expected is StorageError:
        assert str(caught.value).startswith(f"cannot write {tmp_path / 'a'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert folder.read("a") == b"old"


WRITER = """
import sys
from pathlib import Path
from sweeps.ledger.storage import Folder
number = 0
while True:
    number += 1
    Folder(Path(sys.argv[1])).write("record", str(number).encode() * 20_000)
    print(number, flush=True)
"""


def test_a_killed_writer_never_leaves_half_a_file(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    try:
        for line in (writer.stdout.readline() for _ in range(20)):
            assert int(line) > 0
            _check_whole(tmp_path / "record")
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    _check_whole(tmp_path / "record")


def _check_whole(path: Path) -> None:
    text = path.read_text()
    number = text[: len(text) // 20_000]
    assert text == number * 20_000
