"""The search space: Optuna's view, points to members and back, the grid of thresholds."""

import dataclasses
import itertools
import json
import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.config import Space, bundled_configs, load_config

optuna.logging.set_verbosity(optuna.logging.WARNING)

DROPPED = "compression.dropped_energy"
FIXED = [
    "model.hidden=[64]",
    "model.factors=1",
    "model.dropout=0.1",
    "training.lr=0.001",
    "training.weight_decay=0.1",
    "compression.basis=activation",
    "compression.energy=0.9",
]
WIDE = [
    "model.factors={int: [1, 3]}",
    "training.epochs={int: [1, 9]}",
    "training.batch_size={choice: [32, 64]}",
    "training.label_smoothing={uniform: [0, 0.2]}",
    "compression.rule={choice: [energy, entropy]}",
    "compression.energy={range: [0.1, 1.0], points: 5}",
    "compression.finetune_lr={loguniform: [1e-4, 1e-2]}",
    "compression.distillation={weight: {uniform: [0.5, 1]}, temperature: {choice: [1, 2]}}",
]


def space_of(*overrides):
    searched = "compression.basis={choice: [activation, weight]}"
    return Space.from_config(load_config("digits", [searched, *overrides]))


def draws(space, count, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask(space.distributions)
        study.tell(trial, 0.0)
    return [trial.params for trial in study.trials]


def test_distributions():
    assert space_of(*WIDE).distributions == {
        "model.hidden": CategoricalDistribution(
            ["[128, 64]", "[64, 32]", "[96, 48, 24]", "[48]", "[32, 16]", "[22]", "[11]"]
        ),
        "model.factors": IntDistribution(1, 3),
        "model.dropout": FloatDistribution(0.0, 0.3),
        "training.epochs": IntDistribution(1, 9),
        "training.batch_size": CategoricalDistribution([32, 64]),
        "training.lr": FloatDistribution(1e-3, 2e-2, log=True),
        "training.weight_decay": FloatDistribution(1e-3, 0.5, log=True),
        "training.label_smoothing": FloatDistribution(0.0, 0.2),
        "compression.basis": CategoricalDistribution(["activation", "weight"]),
        "compression.rule": CategoricalDistribution(["energy", "entropy"]),
        "compression.dropped_energy": FloatDistribution(1e-6, 0.9, log=True),
        "compression.finetune_lr": FloatDistribution(1e-4, 1e-2, log=True),
        "compression.distillation.weight": FloatDistribution(0.5, 1.0),
        "compression.distillation.temperature": CategoricalDistribution([1.0, 2.0]),
    }


def test_nothing_searched():
    space = space_of(*FIXED)
    assert space.distributions == {}
    member = space.resolve({}, 7)
    assert (member.hidden, member.lr, member.energy, member.flip, member.seed) == ((64,), 0.001, 0.9, None, 7)
    assert space.encode(member) == {}
    assert space.energies() == [0.9]
    assert (space.bases(), space.rules()) == (("activation",), ("energy",))


def test_an_optuna_trial_resolves():
    params = {
        "model.hidden": "[96, 48, 24]",
        "model.factors": 2,
        "model.dropout": 0.25,
        "training.lr": 0.01,
        "training.weight_decay": 0.1,
        "compression.basis": "weight",
        "compression.dropped_energy": 0.25,
    }
    space = space_of("training.flip=true")
    study = optuna.create_study()
    study.enqueue_trial(params)
    trial = study.ask(space.distributions)
    member = space.resolve(trial.params, 11)
    assert member.hidden == (96, 48, 24)
    assert (member.factors, member.dropout, member.basis, member.energy) == (2, 0.25, "weight", 0.75)
    assert (member.flip, member.seed) == (True, 11)
    assert space.encode(member) == params


@pytest.mark.parametrize("name", bundled_configs())
def test_encode_undoes_resolve_on_bundled_files(name):
    space = Space.from_config(load_config(name))
    for number, params in enumerate(draws(space, 30)):
        member = space.resolve(params, number)
        again = space.encode(member)
        assert again.pop(DROPPED) == pytest.approx(params.pop(DROPPED), rel=1e-5)
        assert again == params
        assert space.resolve(space.encode(member), number) == member


def test_encode_undoes_resolve_where_everything_is_searched():
    space = space_of(*WIDE)
    for number, params in enumerate(draws(space, 100)):
        member = space.resolve(params, number)
        assert space.resolve(space.encode(member), number) == member


@settings(max_examples=200)
@given(dropped=st.floats(1e-6, 0.9))
def test_encode_undoes_resolve_for_any_threshold(dropped):
    space = WIDE_SPACE
    params = {**WIDE_PARAMS, "compression.dropped_energy": dropped}
    member = space.resolve(params, 0)
    assert 0 < member.energy < 1
    assert space.resolve(space.encode(member), 0) == member


WIDE_SPACE = space_of(*WIDE)
WIDE_PARAMS = draws(WIDE_SPACE, 1)[0]


def test_other_operating_points_of_a_member_become_finished_trials():
    space = space_of(*WIDE)
    study = optuna.create_study(directions=["maximize", "minimize"])
    member = dataclasses.replace(space.resolve(draws(space, 1)[0], 0), rule="energy")
    told = 0
    for basis in space.bases():
        for energy in [*space.energies(), 1.0]:
            point = space.encode(dataclasses.replace(member, basis=basis, energy=energy))
            study.add_trial(
                optuna.trial.create_trial(
                    params=point, distributions=space.distributions, values=[0.9, 1000.0]
                )
            )
            told += 1
    assert told == len(study.trials) == 12
    study.ask(space.distributions)


def test_entropy_is_read_in_the_weight_basis():
    space = space_of("compression.rule={choice: [energy, entropy]}")
    params = draws(space, 1)[0] | {"compression.rule": "entropy", "compression.basis": "activation"}
    member = space.resolve(params, 0)
    assert (member.rule, member.basis) == ("entropy", "weight")
    again = space.encode(member)
    assert again.pop(DROPPED) == pytest.approx(params.pop(DROPPED))
    assert again == params | {"compression.basis": "weight"}


def test_training_seed_comes_before_the_members_own():
    assert space_of(*FIXED, "training.seed=5").resolve({}, 7).seed == 5


@pytest.mark.parametrize(
    ("low", "high", "points"), [(0.3, 0.999, 48), (0.5, 0.9, 2), (0.9, 1.0, 7), (0.05, 0.999999, 100)]
)
def test_grid_is_uniform_in_the_logarithm_of_what_is_dropped(low, high, points):
    space = space_of(f"compression.energy={{range: [{low}, {high}], points: {points}}}")
    energies = space.energies()
    assert len(energies) == points
    assert energies[0] == low
    assert energies[-1] == min(high, 1 - 1e-6)
    steps = [-math.log(1 - energy) for energy in energies]
    expected = (steps[-1] - steps[0]) / (points - 1)
    assert [after - before for before, after in itertools.pairwise(steps)] == pytest.approx(
        [expected] * (points - 1), rel=1e-4
    )
    distribution = space.distributions["compression.dropped_energy"]
    assert distribution.low == pytest.approx(1 - energies[-1])
    assert distribution.high == pytest.approx(1 - energies[0])


def test_grid_of_one_point_is_the_middle():
    energies = space_of("compression.energy={range: [0.9, 0.999], points: 1}").energies()
    assert energies == pytest.approx([0.99])


def test_choice_of_thresholds():
    space = space_of("compression.energy={choice: [0.99, 0.9]}")
    assert space.energies() == [0.9, 0.99]
    params = draws(space, 1)[0]
    assert space.encode(space.resolve(params, 0)) == params
    assert isinstance(space.distributions["compression.energy"], CategoricalDistribution)


# name: changed parameters, what the error says
POINTS = {
    "missing": ({"model.hidden": None}, "a point of this space has the parameters"),
    "unknown": ({"model.depth": 3}, r"got \[.*model.depth"),
    "option that is gone": ({"model.hidden": "[7]"}, r"model.hidden got '\[7\]', must be within"),
    "list for its JSON": ({"model.hidden": [64, 32]}, r"model.hidden got \[64, 32\], must be within"),
    "outside": ({"training.lr": 1.0}, r"training.lr got 1.0, must be within \[0.001, 0.02\] in this space"),
    "text": ({"training.lr": "fast"}, "training.lr got 'fast', must be within"),
    "nan": ({"compression.dropped_energy": math.nan}, "compression.dropped_energy got nan, must be within"),
}


@pytest.mark.parametrize(("changes", "says"), POINTS.values(), ids=POINTS)
def test_point_outside_the_space(changes, says):
    space = space_of()
    params = draws(space, 1)[0] | changes
    params = {name: value for name, value in params.items() if value is not None}
    with pytest.raises(ValueError, match=says):
        space.resolve(params, 0)


# name: changed field, what the error says
MEMBERS = {
    "fixed field": ({"epochs": 31}, "training.epochs got 31, must be within 30 in this space"),
    "option": ({"hidden": (7,)}, r"model.hidden got \[7\], must be within"),
    "number": ({"dropout": 0.9}, "model.dropout got 0.9, must be within"),
    "threshold": ({"energy": 0.1}, "compression.energy got 0.1, must be within"),
    "threshold above a range that stops short": (
        {"energy": 0.9999},
        "compression.energy got 0.9999, must be",
    ),
}


@pytest.mark.parametrize(("changes", "says"), MEMBERS.values(), ids=MEMBERS)
def test_member_outside_the_space(changes, says):
    space = space_of()
    member = dataclasses.replace(space.resolve(draws(space, 1)[0], 0), **changes)
    with pytest.raises(ValueError, match=says):
        space.encode(member)


def test_points_survive_json_since_ray_and_the_ledger_hold_them():
    space = space_of(*WIDE)
    for params in draws(space, 5):
        assert space.resolve(json.loads(json.dumps(params)), 0) == space.resolve(params, 0)
