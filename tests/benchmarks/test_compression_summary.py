"""The compression benchmark's figures: validation chooses, test is read, every row has the dense model."""

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.compression_baselines import fitting_widths, small_shapes
from benchmarks.compression_summary import best_dense, choice, figures, hypervolume, models, within
from sweeps.ledger.joined_front import reference_size

REFERENCE = 1000
# parameters, validation, test: the middle one is better on validation and worse on test
FOUND = [[20, 0.5, 0.55], [100, 0.9, 0.7], [400, 0.8, 0.95]]


def seed_of(points: list[list[float]]) -> dict[str, Any]:
    return {
        "reference_params": REFERENCE,
        "dense": {"plain": {"validation": 0.92, "test": 0.9}, "LoRITa": {"validation": 0.94, "test": 0.88}},
        "rows": {"row": {"points": points, "seconds": 1.0}},
    }


def test_validation_chooses_and_test_is_read() -> None:
    assert choice(FOUND, 400) == FOUND[1]
    assert choice(FOUND, 99) == FOUND[0]
    assert choice(FOUND, 19) is None
    assert within(FOUND, 0.8) == FOUND[1]  # the smallest that holds on validation, whatever test says
    assert within(FOUND, 0.91) is None
    assert best_dense(seed_of(FOUND)) == {"validation": 0.94, "test": 0.88}


def test_every_row_may_fall_back_on_the_dense_reference() -> None:
    seed = seed_of(FOUND)
    assert models(seed, "row")[-1] == [REFERENCE, 0.92, 0.9]
    found = figures(seed, "row")
    assert found["within"][0.01] is None  # the other dense member is better by more
    assert found["accuracy"][5] == 0.7
    assert found["accuracy"][30] == 0.55


@pytest.mark.parametrize("number", range(20))
def test_hypervolume_is_the_mean_of_what_is_chosen(number: int) -> None:
    draws = np.random.default_rng(number)
    found = sorted([int(draws.integers(2, REFERENCE)), draws.random(), draws.random()] for _ in range(8))
    found.append([REFERENCE, 0.95, 0.9])
    ratios = np.exp((np.arange(20_000) + 0.5) / 20_000 * math.log(100))
    chosen = [choice(found, REFERENCE / ratio) for ratio in ratios]
    brute = np.mean([0.0 if model is None else model[2] for model in chosen])
    assert hypervolume(found, REFERENCE) == pytest.approx(brute, abs=1e-3)


@pytest.mark.parametrize("hidden", [(128, 64), (128,), (8, 8, 8)])
@pytest.mark.parametrize("limit", [300, 2000, 17_000, 60_000])
def test_widths_fill_the_limit(hidden: tuple[int, ...], limit: int) -> None:
    widths = fitting_widths(64, hidden, 10, limit)
    assert reference_size(widths)[0] <= limit or min(widths[1:-1]) == 1
    wider = [64, *(width + max(1, width // 8) for width in widths[1:-1]), 10]
    assert reference_size(wider)[0] > limit


def test_small_networks_have_the_references_depth_and_one_hidden_layer() -> None:
    shapes = small_shapes((512, 256))
    assert {depth for _, depth in shapes} == {1, 2}
    assert max(ratio for ratio, _ in shapes) == 100
    assert len(small_shapes((48,))) == len(shapes) // 2
