"""Training methods: the contract for each that is registered."""

from collections.abc import Callable
from typing import Any

import pytest

from arsvd.testing.training_methods import CONTRACT
from arsvd.training.methods import METHODS

EXAMPLES = [(name, settings) for name, method in METHODS.items() for settings in method.examples()]


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize(("name", "settings"), EXAMPLES, ids=str)
def test_contract(promise: Callable[..., None], name: str, settings: dict[str, Any]) -> None:
    promise(METHODS[name], settings)


def test_every_method_is_tested() -> None:
    assert {name for name, _ in EXAMPLES} == set(METHODS)
    assert len(METHODS) >= 5
