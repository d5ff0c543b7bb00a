"""What the compression benchmark compares with: the rules that others use, and small dense networks."""

from collections.abc import Sequence

import numpy as np
import torch

from arsvd import Energy, Entropy, RankRule, Spectra, pareto, plan
from arsvd.evaluation.evaluator import Evaluator, Metrics, evaluate
from arsvd.fronts import fixed_grid, thresholds
from arsvd.statistics import BASES
from arsvd.training import Hyperparameters, Pack, dense_architecture, train
from benchmarks.compression_recipes import Recipe
from sweeps.ledger.joined_front import reference_size
from sweeps.trial.weights import MemberWeights
from sweeps.trial.workbench import Workbench

GRID = 64
# as far as the hypervolume counts, so that this row is not short of models where others have some
SMALL_RATIOS = (3, 5, 10, 15, 20, 30, 45, 60, 80, 100)

Measured = tuple[int, float, Metrics]  # parameters, validation accuracy, test metrics
Inputs = tuple[torch.Tensor, torch.Tensor]
Shape = tuple[int, int]  # times fewer parameters than the reference, hidden layers


def kept(found: Sequence[Measured]) -> list[list[float]]:
    """Return what is kept of models: parameters, validation accuracy, test accuracy, test macro-F1."""
    return [[params, validation, test.accuracy, test.macro_f1] for params, validation, test in found]


def rule_rows(
    weights: MemberWeights, bench: Workbench, test: Inputs
) -> dict[str, tuple[list[Measured], float]]:
    """Measure the rules that others use, on the plainly trained reference; and how long the search took.

    Fixed rank is tried with the output layer factorised and with it dense, and every rule's grid is fine
    enough that no size which the rule can give is missed for want of a threshold.
    """
    weight, activation = weights.spectra["weight"], weights.spectra["activation"]
    low, high = BASES["weight"].energy_range
    # entropy is spread evenly in neither tau nor its logarithm, so both are tried
    entropies = np.unique([*np.linspace(0.02, 0.999, 2 * GRID), *np.geomspace(0.001, 0.5, 2 * GRID)])
    rules: dict[str, tuple[Spectra, list[RankRule]]] = {
        "fixed rank": (weight, fixed_grid(4 * GRID)),
        "weight energy (v1)": (weight, [Energy(t) for t in thresholds(low, high, GRID)]),
        "spectral entropy (v2)": (weight, [Entropy(float(t)) for t in entropies]),
        "activation energy": (activation, [Energy(t) for t in thresholds(low, 0.9999, GRID)]),
    }
    rows = {}
    for row, (found, chosen) in rules.items():
        started = bench.clock()
        plans = {p.ranks: p for p in (plan(found, rule) for rule in chosen)}
        measured = Evaluator(weights.dense, found, *bench.validation).points(list(plans.values()))
        spent = bench.clock() - started
        on_test = Evaluator(weights.dense, found, *test)
        rows[row] = (
            [(p.params, p.accuracy, on_test.metrics([p.ranks])[p.ranks]) for p in pareto(measured)],
            spent,
        )
    return rows


def small_shapes(hidden: Sequence[int]) -> list[Shape]:
    """List the small dense networks: at each size the reference's depth, and one hidden layer."""
    return [(ratio, depth) for ratio in SMALL_RATIOS for depth in sorted({1, len(hidden)})]


def small_dense(
    recipe: Recipe, bench: Workbench, test: Inputs, seed: int, shapes: Sequence[Shape] | None = None
) -> list[Measured]:
    """Train small dense networks, one a shape at each of two learning rates, of which validation chooses.

    Args:
        recipe: the data set's; they get the epochs of the reference and of recovery together.
        bench: the data.
        test: its test split.
        seed: of the members.
        shapes: `small_shapes` when None.
    """
    config, data = recipe.plain, bench.dataset
    flip = data.colour if config.flip is None else config.flip
    reference = reference_size([data.features, *config.hidden, len(data.classes)])[0]
    found = []
    for ratio, depth in small_shapes(config.hidden) if shapes is None else shapes:
        hidden = config.hidden if depth > 1 else config.hidden[:1]
        widths = fitting_widths(data.features, hidden, len(data.classes), reference // ratio)
        members = [
            # little dropout: a small network underfits before it overfits
            Hyperparameters(
                lr,
                config.weight_decay,
                seed,
                {"training.label_smoothing": config.label_smoothing, "training.flip": flip},
            )
            for lr in recipe.small_rates
        ]
        pack = Pack.from_seeds([dense_architecture(widths)] * len(members), [seed] * len(members))
        epochs = config.epochs + config.finetune_epochs
        train(pack, data, members, epochs=epochs, batch_size=config.batch_size)
        models = [pack.model(member, merge=True) for member in range(len(members))]
        reached = [evaluate(model, *bench.validation).accuracy for model in models]
        chosen = max(range(len(models)), key=lambda index: reached[index])
        found.append((reference_size(widths)[0], reached[chosen], evaluate(models[chosen], *test)))
    return sorted(found, key=lambda entry: entry[0])


def fitting_widths(features: int, hidden: Sequence[int], classes: int, limit: int) -> list[int]:
    """Scale hidden widths by one factor to the most parameters below a limit."""
    low, high = 0.0, 1.0

    def scaled(factor: float) -> list[int]:
        return [features, *(max(1, int(width * factor)) for width in hidden), classes]

    while reference_size(scaled(high))[0] <= limit:
        high *= 2  # one hidden layer may be wider than the reference's
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if reference_size(scaled(middle))[0] <= limit else (low, middle)
    return scaled(low)
