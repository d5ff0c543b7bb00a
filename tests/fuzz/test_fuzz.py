"""Every reader, for a few seconds: the short form of the fuzz targets."""

import os
import threading
import warnings
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.contract import Target, judge, judge_file, targets

TARGETS = targets()
_PATIENCE_SECONDS = 3.0


def test_there_is_a_target_for_every_reader() -> None:
    assert set(TARGETS) >= {
        "sweep-file",
        "overrides",
        "pt2",
        "state-dict",
        "idx",
        "cifar10",
        "inputs",
        "images",
    }
    assert len(TARGETS) >= 25


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_whole_file_is_read(target: Target, tmp_path: Path) -> None:
    for number, seed in enumerate(target.seeds()):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = judge(target, seed.name, seed.data, folder)
        assert verdict.fault is None
        assert not verdict.refused, seed.name


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_changed_file_is_read_or_refused_in_words(
    target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seeds = target.seeds()

    @settings(
        max_examples=target.examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32 - 1))
    def check(number: int) -> None:
        random = Random(number)
        seed = random.choice(seeds)
        data = target.mutate(random, seed.data, [other.data for other in seeds])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of files that are refused in the end
            verdict = judge(target, seed.name, data, tmp_path_factory.mktemp("input"))
        assert verdict.fault is None, verdict.fault

    check()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _nothing(path: Path) -> None:
    """Leave the place empty."""


def _let_go(path: Path) -> None:
    if path.is_fifo():
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


INSTEAD = {"pipe": _pipe, "folder": _folder, "loop": _loop, "device": _endless, "nothing": _nothing}


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("target", [t for t in TARGETS.values() if t.special], ids=lambda target: target.name)
def test_pipes_and_devices_are_refused_without_waiting(target: Target, instead: str, tmp_path: Path) -> None:
    path = target.place(tmp_path, target.seeds()[0].name)
    if path.exists():
        path.unlink()
    INSTEAD[instead](path)
    # a thread that waits for a pipe would keep the test from ending: let it go, and see that it waited
    release = threading.Timer(_PATIENCE_SECONDS, _let_go, [path])
    release.start()
    verdict = judge_file(target, path)
    release.cancel()
    assert verdict.fault is None, verdict.fault
    assert verdict.seconds < _PATIENCE_SECONDS
