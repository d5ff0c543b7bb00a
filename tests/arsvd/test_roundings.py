"""Every rounding keeps the contract; GPTQ's error is well below that of the nearest levels."""

from collections.abc import Callable

import pytest
import torch

from arsvd.roundings import ROUNDINGS, Levels
from arsvd.testing.roundings import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", ROUNDINGS.names)
def test_every_rounding(name: str, check: Callable[[str], None]) -> None:
    check(name)


def test_gptq_halves_the_error_where_inputs_are_correlated() -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(2000, 8) @ torch.randn(8, 64) + 0.3 * torch.randn(2000, 64)).double()
    second, matrix, steps = inputs.T @ inputs / 2000, torch.randn(20, 64).double(), torch.tensor(1.0).double()
    lost = [matrix - rounding.codes(matrix, steps, second) for _, rounding in ROUNDINGS.items()]
    nearest, gptq = (float((inputs @ each.T).square().mean()) for each in lost)
    assert gptq < 0.5 * nearest


def test_gptq_is_the_textbook_s_column_by_column() -> None:
    """Against the algorithm with an explicit inverse: after each column the others minimise the error."""
    torch.manual_seed(1)
    inputs = torch.randn(300, 6).double() @ torch.randn(6, 6).double()
    second = inputs.T @ inputs / 300
    second = second[second.diagonal().argsort(descending=True)][:, second.diagonal().argsort(descending=True)]
    matrix, step = torch.randn(3, 6).double(), 0.7
    damped = second + 0.01 * second.diagonal().mean() * torch.eye(6).double()
    rounded = torch.zeros(3, 6).double()
    for column in range(6):
        # given the columns rounded so far, the best values of those to come
        done, rest = slice(0, column), slice(column, 6)
        error = matrix[:, done] - rounded[:, done]
        best = matrix[:, rest] + error @ damped[done, rest] @ torch.linalg.inv(damped[rest, rest])
        rounded[:, column] = (best[:, 0] / step).round() * step
    codes = ROUNDINGS["gptq"].codes(matrix, torch.tensor(step).double(), second)
    torch.testing.assert_close(codes * step, rounded)


@pytest.mark.parametrize(
    ("low", "high", "message"), [(None, 3, "two bounds or none"), (2, 2, "from a lower code to a higher one")]
)
def test_bounds_that_are_none(low: int | None, high: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Levels(low, high)


def test_levels_of_a_width() -> None:
    assert Levels.of_width(1) == Levels(-1, 0, 0.5)
    assert Levels.of_width(4) == Levels(-8, 7)
    assert Levels.of_width(2).values(torch.arange(-2, 2)).tolist() == [-1.5, -0.5, 0.5, 1.5]
    with pytest.raises(ValueError, match="codes have 1 to 32 bits, got 33"):
        Levels.of_width(33)
