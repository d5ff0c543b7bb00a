"""The judge of the fuzz targets sees what a reader may not do: else finding nothing would say nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import contract
from tests.fuzz.contract import Seed, Target, judge


def _target(read: Callable[[Path], object]) -> Target:
    return Target(
        name="toy",
        seeds=lambda: (Seed("toy.bin", b"whole"),),
        place=lambda folder, name: folder / name,
        read=read,
        refusals=(ValueError,),
        mutate=lambda random, data, others: data,
    )


def _refuse(path: Path) -> None:
    raise ValueError("no toy")


def _stumble(path: Path) -> None:
    try:
        raise OverflowError("too large")
    except OverflowError:
        {}["key"]


def _dawdle(path: Path) -> None:
    while True:
        pass


def test_an_answer_and_a_refusal_are_not_faults(tmp_path: Path) -> None:
    answered = judge(_target(Path.read_bytes), "toy.bin", b"whole", tmp_path)
    assert (answered.fault, answered.refused) == (None, False)
    refused = judge(_target(_refuse), "toy.bin", b"whole", tmp_path)
    assert (refused.fault, refused.refused) == (None, True)
    assert refused.signature != answered.signature


@pytest.mark.parametrize(("read", "says"), [(_stumble, "KeyError: 'key'"), (_dawdle, "more than 0.05 s")])
def test_another_error_and_a_wait_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], says: str
) -> None:
    monkeypatch.setattr(contract, "LIMIT_SECONDS", 0.05)
    verdict = judge(_target(read), "toy.bin", b"whole", tmp_path)
    assert verdict.fault is not None
    assert says in verdict.fault


_WATCHED = """
import os, pickle, subprocess, sys
from pathlib import Path
from tests.fuzz.guard import Guard
inside = Path(sys.argv[1])
guard = Guard((inside,), ())
for deed in (
    lambda: (inside / "own").write_text("x"),
    lambda: exec("1"),
    lambda: (inside.parent / "outside").write_text("x"),
    lambda: (inside / "own").rename(inside.parent / "moved"),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: pickle.loads(b"cos\\nsystem\\n."),
):
    with guard.watching():
        deed()
    print(guard.found[0].split()[0] if guard.found else "nothing")
"""


def test_programs_run_and_files_written_elsewhere_are_seen(tmp_path: Path) -> None:
    """In a process of its own: an audit hook stays for good."""
    (tmp_path / "inside").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(tmp_path / "inside")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "nothing",
        "exec",
        "open",
        "os.rename",
        "subprocess.Popen",
        "os.system",
        "pickle.find_class",
    ]
