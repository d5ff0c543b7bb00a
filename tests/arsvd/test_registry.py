"""Registries and options: names without imports, words for what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from arsvd.options import REQUIRED, Option
from arsvd.options.faults import FaultError
from arsvd.options.forms import LogUniform
from arsvd.options.kinds import Number, Whole
from arsvd.registry import Registry, UnknownMethodError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    package = tmp_path / "fruits"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "apple.py").write_text("print('apple is imported')\nSWEET = 7\n")
    (package / "lemon.py").write_text("SOUR = -1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("fruit", "fruits", {"lemon": "lemon:SOUR", "apple": "apple:SWEET"})


def test_a_method_is_imported_when_it_is_asked_for(
    registry: Registry[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.names == ("lemon", "apple") == tuple(registry)
    assert len(registry) == 2
    assert "apple" in registry
    assert "pear" not in registry
    assert capsys.readouterr().out == ""
    assert (registry["apple"], registry["apple"]) == (7, 7)
    assert capsys.readouterr().out == "apple is imported\n"
    assert list(registry.items()) == [("lemon", -1), ("apple", 7)]


def test_an_unknown_name_gets_the_nearest_one_and_all_there_are(registry: Registry[int]) -> None:
    with pytest.raises(UnknownMethodError) as caught:
        registry["aple"]
    assert str(caught.value) == "unknown fruit 'aple'; did you mean apple?; there are lemon and apple"
    with pytest.raises(UnknownMethodError, match="unknown fruit 'x'; there are lemon and apple"):
        registry["x"]


def test_an_option_checks_as_it_is_declared() -> None:
    rate = Option("training.lr", Number(0, low_open=True), "highest rate", forms=("choice", "loguniform"))
    assert (rate.required, rate.absent) == (True, REQUIRED)
    assert rate.check(0.5) == 0.5
    assert rate.check({"loguniform": [1e-3, 1e-2]}) == LogUniform(1e-3, 1e-2)
    with pytest.raises(FaultError, match=r"got -1, must be a number > 0, \{choice: "):
        rate.check(-1)
    count = Option("model.factors", Whole(1), "linear factors", default=1, absent=1)
    assert not count.required
    with pytest.raises(FaultError, match=r"must be a whole number >= 1$"):
        count.check({"choice": [1, 2]})


def test_registries_and_options_need_no_torch() -> None:
    code = "import sys, arsvd.registry, arsvd.options; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
