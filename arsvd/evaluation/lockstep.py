"""Searches over several models in lockstep, so that their measurements are made together.

A search is a generator. It yields what it is about to measure, and then asks its evaluators for it. When it
runs alone, nothing happens in between, and the evaluators measure by themselves; when searches run together,
everything that they wait for is measured at once, and the evaluators remember it. The search is the same
either way.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from arsvd.evaluation.batched import measure_together
from arsvd.evaluation.evaluator import Evaluator, RankTuple

T = TypeVar("T")

Wanted = list[tuple[Evaluator, list[RankTuple]]]
Steps = Generator[Wanted, None, T]


def alone(steps: Steps[T]) -> T:
    """Run one search to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def together(searches: Sequence[Steps[T]], on_failure: Callable[[Exception], None]) -> list[T | Exception]:
    """Run searches to their ends, step by step, and measure what they want together.

    Args:
        searches: searches over different models.
        on_failure: callback for the error where measuring together fails; each search then goes on alone,
            unless the callback raises.

    Returns:
        Each search's result, or the error that ended it; the others go on after such an error.
    """
    ended: dict[int, T | Exception] = {}
    running = dict(enumerate(searches))
    joint = len(running) > 1
    while running:
        wanted: Wanted = []
        for position, steps in list(running.items()):
            try:
                wanted += next(steps)
            except StopIteration as end:
                ended[position] = end.value
            except Exception as error:
                ended[position] = error
            if position in ended:
                del running[position]
        if joint and wanted:
            try:
                measure_together(wanted)
            except Exception as error:
                joint = False
                on_failure(error)
    return [ended[position] for position in range(len(searches))]
