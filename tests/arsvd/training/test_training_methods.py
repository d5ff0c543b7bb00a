"""Training methods: the contract for each that is registered."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import arsvd
from arsvd.testing.training_methods import CONTRACT
from arsvd.training import Hyperparameters
from arsvd.training.methods import METHODS
from arsvd.training.methods.base import TrainingMethod

EXAMPLES = [(name, settings) for name, method in METHODS.items() for settings in method.examples()]


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize(("name", "settings"), EXAMPLES, ids=str)
def test_contract(promise: Callable[..., None], name: str, settings: dict[str, Any]) -> None:
    promise(METHODS[name], settings)


def test_every_method_is_tested() -> None:
    assert {name for name, _ in EXAMPLES} == set(METHODS)
    assert len(METHODS) >= 5


def test_the_documentation_shows_what_is_run() -> None:
    root = Path(arsvd.__file__).parents[1]
    page, folder = (root / "docs/extending.md").read_text(), root / "arsvd/training/methods"
    section = page.split("## A training method\n")[1]
    method, line, use = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert method == (folder / "lasso.py").read_text()
    assert line in (folder / "__init__.py").read_text()
    member = eval(use, {"Hyperparameters": Hyperparameters})
    assert METHODS["lasso"].on(member)
    for hook in re.findall(r"`(\w+)`", page[page.index("| hook") : page.index("Every tensor")]):
        assert callable(getattr(TrainingMethod, hook)), hook
