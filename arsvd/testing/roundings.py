"""The contract of a rounding."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from arsvd.roundings import ROUNDINGS, Levels

Case = tuple[Tensor, Tensor, Tensor]


def it_is_registered_by_its_name(name: str) -> None:
    """The registry has the rounding under its own name."""
    assert ROUNDINGS[name].name == name


def codes_are_whole_and_within_bounds(name: str) -> None:
    """Codes are whole numbers, between the bounds where there are any."""
    for levels in (Levels(), *map(Levels.of_width, (1, 2, 3, 8))):
        for matrix, steps, second in _cases():
            codes = ROUNDINGS[name].codes(matrix, steps, second, levels)
            assert codes.shape == matrix.shape
            assert torch.equal(codes, codes.round())
            if levels.low is not None and levels.high is not None:
                assert levels.low <= int(codes.min())
                assert int(codes.max()) <= levels.high


def multiples_of_the_step_stay(name: str) -> None:
    """What can be written without an error is written so."""
    for levels in (Levels(), Levels.of_width(2), Levels.of_width(4)):
        for matrix, steps, second in _cases():
            codes = levels.nearest(matrix / steps)
            exact = levels.values(codes) * steps
            assert torch.equal(ROUNDINGS[name].codes(exact, steps, second, levels), codes)


def independent_inputs_leave_nothing_to_make_up_for(name: str) -> None:
    """Where inputs are uncorrelated, or unknown, the nearest level is the best."""
    for matrix, steps, second in _cases():
        nearest = (matrix / steps).round()
        for moments in (None, torch.zeros_like(second), second.diagonal().diag()):
            assert torch.equal(ROUNDINGS[name].codes(matrix, steps, moments), nearest)


def errors_of_the_outputs_are_no_larger_than_of_the_nearest(name: str) -> None:
    """In the metric of the inputs the error is at most that of the nearest levels, over all cases."""
    ours = nearest = 0.0
    for matrix, steps, second in _cases():
        lost = [matrix - steps * codes for codes in _both(name, matrix, steps, second)]
        errors = [float((each @ second * each).sum()) for each in lost]
        ours, nearest = ours + errors[0] / errors[1], nearest + 1
    assert ours <= nearest * (1 + 1e-12)


def nothing_is_changed(name: str) -> None:
    """The matrix, the steps and the moments are only read."""
    for case in _cases():
        before = [tensor.clone() for tensor in case]
        ROUNDINGS[name].codes(*case)
        assert all(torch.equal(one, other) for one, other in zip(before, case, strict=True))


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__: check
    for check in (
        it_is_registered_by_its_name,
        codes_are_whole_and_within_bounds,
        multiples_of_the_step_stay,
        independent_inputs_leave_nothing_to_make_up_for,
        errors_of_the_outputs_are_no_larger_than_of_the_nearest,
        nothing_is_changed,
    )
}


def _both(name: str, matrix: Tensor, steps: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return ROUNDINGS[name].codes(matrix, steps, second), (matrix / steps).round()


def _cases() -> Iterator[Case]:
    """Draw matrices of several shapes, steps for all, for rows and for columns, and correlated inputs."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for out, into, rows in ((1, 1, 5), (7, 5, 60), (4, 90, 400), (30, 130, 60)):
        inputs = drawn(rows, into) @ drawn(into, into) + drawn(into)
        inputs[:, ::4] = 0.0 if into > 80 else inputs[:, ::4]  # inputs that are always off
        second = inputs.T @ inputs / rows
        matrix = drawn(out, into)
        for shape in ((), (out, 1), (1, into)):
            yield matrix, 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64), second
