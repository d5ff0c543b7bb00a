"""Every reader, for a few seconds: the short form of the fuzz targets."""

import os
import warnings
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.contract import Target, judge, judge_file, targets

TARGETS = targets()


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


INSTEAD = {"pipe": _pipe, "folder": _folder, "loop": _loop, "device": _endless, "nothing": _nothing}


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("target", [t for t in TARGETS.values() if t.special], ids=lambda target: target.name)
def test_what_is_no_file_is_refused_and_not_waited_for(target: Target, instead: str, tmp_path: Path) -> None:
    path = target.place(tmp_path, target.seeds()[0].name)
    if path.exists():
        path.unlink()
    INSTEAD[instead](path)
    verdict = judge_file(target, path)
    assert verdict.fault is None, verdict.fault
