import random
from dataclasses import replace

import pytest

from sweeps.tracking import NoModelError, RegisteredVersion, choose, registered_name
from sweeps.tracking.versions import most_accurate, smallest

EXAMPLE = RegisteredVersion(
    name="arsvd-mnist",
    version=3,
    sweep="mnist-1",
    member="0a1b",
    data_hash="d1",
    ranks=(12, None, 4),
    basis="activation",
    family="energy",
    params=12_345,
    macs=12_000,
    validation_accuracy=0.1 + 0.2,  # not a short decimal
    dense_accuracy=0.985,
    assured_accuracy=0.1 + 0.2,
    test_accuracy=None,
    sha256="ab" * 32,
    model_id="m-1",
)


def version(
    number: int, params: int, accuracy: float, dense: float = 0.985, data: str = "d1"
) -> RegisteredVersion:
    return replace(
        EXAMPLE,
        version=number,
        params=params,
        validation_accuracy=accuracy,
        assured_accuracy=accuracy,
        dense_accuracy=dense,
        data_hash=data,
    )


@pytest.mark.parametrize(
    "example",
    [
        EXAMPLE,
        replace(EXAMPLE, test_accuracy=1 / 3, basis="weight"),
        replace(EXAMPLE, ranks=(None,), basis=None, family="dense"),
        replace(EXAMPLE, scale=4095.0),
    ],
    ids=["no test figure", "all", "dense", "levels of 12 bits"],
)
def test_tags_hold_all_facts(example: RegisteredVersion) -> None:
    tags = example.to_tags()
    assert all(isinstance(value, str) for value in tags.values())
    assert RegisteredVersion.from_tags(example.name, example.version, tags) == example


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        ("params", None, "has no tag 'params'"),
        ("scale", "wide", "has an unreadable tag.*wide"),
        ("params", "many", "has an unreadable tag.*many"),
        ("ranks", '"12"', "has an unreadable tag.*whole numbers"),
        ("ranks", "[true]", "has an unreadable tag.*whole numbers"),
        pytest.param("ranks", "[" * 100_000, "has an unreadable tag.*too deeply", id="deep"),
        ("ranks", "[NaN]", "has an unreadable tag.*NaN"),
        ("params", "-5", "has an unreadable tag.*at least 1, got '-5'"),
        ("macs", "-1", "has an unreadable tag.*at least 0"),
        ("validation_accuracy", "nan", "has an unreadable tag.*accuracy must be in"),
        ("validation_accuracy", "98.5", "has an unreadable tag.*accuracy must be in"),
    ],
)
def test_foreign_tags_are_named(tag: str, value: str | None, says: str) -> None:
    tags = EXAMPLE.to_tags()
    tags.pop(tag, None)
    if value is not None:
        tags[tag] = value
    with pytest.raises(ValueError, match=f"version 3 of 'arsvd-mnist' {says}"):
        RegisteredVersion.from_tags("arsvd-mnist", 3, tags)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("mnist", "arsvd-mnist"), ("my flowers/2024:v1", "arsvd-my-flowers-2024-v1"), ("a.b_c", "arsvd-a.b_c")],
)
def test_registered_names_fit_an_address(dataset: str, name: str) -> None:
    assert registered_name(dataset) == name


def test_choices_agree_with_brute_force() -> None:
    rng = random.Random(0)
    compared = 0
    for _ in range(300):
        images = rng.choice([20, 100, 10_000])
        versions = [
            version(
                number,
                params=rng.randint(1, 12),
                accuracy=rng.randint(images - 10, images) / images,
                dense=rng.randint(images - 5, images) / images,
                data=rng.choice(["d1", "d1", "d2"]),
            )
            for number in range(1, rng.randint(2, 12))
        ]
        rng.shuffle(versions)
        newest = max(versions, key=lambda v: v.version)
        rivals = [v for v in versions if v.data_hash == newest.data_hash]
        dropped = rng.randint(0, 8)
        # whole images, so that the expectation does not depend on rounding
        dense = max(round(v.dense_accuracy * images) for v in rivals)
        fit = [v for v in rivals if round(v.validation_accuracy * images) >= dense - dropped]
        compared += _same(
            lambda versions=versions, drop=dropped / images: choose(versions, max_drop=drop),
            fit,
            key=lambda v: (v.params, -v.validation_accuracy, -v.version),
        )
        limit = rng.randint(1, 12)
        compared += _same(
            lambda versions=versions, limit=limit: choose(versions, max_params=limit),
            [v for v in rivals if v.params <= limit],
            key=lambda v: (-v.validation_accuracy, v.params, -v.version),
        )
        assert smallest(versions).params == min(v.params for v in rivals)
        assert most_accurate(versions).validation_accuracy == max(v.validation_accuracy for v in rivals)
    assert compared > 300


def _same(choice, fit, key) -> bool:  # type: ignore[no-untyped-def]
    if not fit:
        with pytest.raises(NoModelError, match=r"the closest, models:/arsvd-mnist/\d+, has"):
            choice()
        return False
    assert choice() == min(fit, key=key)
    return True


def test_a_model_exactly_at_the_limit_qualifies() -> None:
    # 0.985 - 0.005 is 0.98 in decimal and a little less or more in binary
    assert choose([version(1, 10, 0.98), version(2, 20, 0.985)], max_drop=0.005).version == 1
    assert choose([version(1, 10, 0.9798), version(2, 20, 0.985)], max_drop=0.005).version == 2


def test_models_of_other_data_are_not_compared() -> None:
    old = [version(1, 10, 0.99, dense=0.999, data="old"), version(2, 5, 0.99, dense=0.999, data="old")]
    new = version(3, 100, 0.5, dense=0.5, data="new")
    assert choose([*old, new], max_drop=0.0) == new
    assert smallest([*old, new]) == new


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "exactly one of max_drop and max_params"),
        ({"max_drop": 0.1, "max_params": 10}, "exactly one of max_drop and max_params"),
        ({"max_drop": -0.1}, "max_drop must be a share in .* got -0.1"),
        ({"max_drop": 1.5}, "max_drop must be a share in .* got 1.5"),
        ({"max_drop": float("nan")}, "max_drop must be a share"),
        ({"max_params": 0}, "max_params must be at least 1, got 0"),
    ],
)
def test_limits_that_cannot_be(limits: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose([EXAMPLE], **limits)  # type: ignore[arg-type]


def test_an_error_without_a_qualifying_model_names_the_closest() -> None:
    versions = [version(1, 5_000, 0.9), version(2, 20_000, 0.97)]
    with pytest.raises(NoModelError, match=r"within 0.005 .* 0.9850; .*/2, has 0.9700 with 20,000"):
        choose(versions, max_drop=0.005)
    with pytest.raises(NoModelError, match=r"at most 4,999 parameters; .*/1, has 5,000 .* 0.9000"):
        choose(versions, max_params=4_999)
    with pytest.raises(NoModelError, match="no model is registered"):
        choose([], max_params=4_999)
