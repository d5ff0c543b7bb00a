"""A member's record key, its JSON form and its seed."""

import dataclasses
import json

import pytest

from sweeps.config import MemberConfig, member_seed
from sweeps.config.on_record import RECORD_VERSION

MEMBER = MemberConfig(
    hidden=(512, 256),
    factors=2,
    dropout=0.0,
    epochs=10,
    batch_size=256,
    lr=1e-3,
    weight_decay=0.1,
    label_smoothing=0.0,
    schedule="onecycle",
    flip=None,
    basis="activation",
    rule="energy",
    energy=0.98,
    calibration=10_000,
    finetune_epochs=2,
    finetune_points=6,
    finetune_lr=1e-3,
    distillation_weight=0.9,
    distillation_temperature=2.0,
    seed=3,
)

CHANGES = {
    "hidden": (512, 255),
    "factors": 1,
    "dropout": 0.1,
    "epochs": 11,
    "batch_size": 128,
    "lr": 1.0000001e-3,
    "weight_decay": 0.2,
    "label_smoothing": 0.1,
    "schedule": "cosine",
    "flip": False,
    "basis": "weight",
    "rule": "entropy",
    "energy": 0.981,
    "calibration": 5_000,
    "finetune_epochs": 0,
    "finetune_points": 5,
    "finetune_lr": 2e-3,
    "distillation_weight": 0.8,
    "distillation_temperature": 3.0,
    "lasso_weight": 1e-3,
    "seed": 4,
}


@pytest.mark.parametrize("version", [1, RECORD_VERSION])
def test_key_changes_with_every_field_and_with_the_data(version):
    assert set(CHANGES) == {field.name for field in dataclasses.fields(MemberConfig)}
    changed = [dataclasses.replace(MEMBER, **{name: value}) for name, value in CHANGES.items()]
    keys = {member.key("data", version) for member in changed}
    keys |= {MEMBER.key("data", version), MEMBER.key("other data", version)}
    assert len(keys) == len(CHANGES) + 2


def test_key_is_the_same_in_every_process():
    # printed once by MEMBER.key("data", …) and kept: another value would orphan the records of every ledger
    assert MEMBER.key("data", version=1) == "b06abf1aeb50b3ba4a66"
    assert MEMBER.key("data") == MEMBER.key("data", version=2) == "3287437ca712fc10c54f"


def test_key_does_not_depend_on_how_a_number_is_written():
    same = dataclasses.replace(MEMBER, dropout=0, distillation_temperature=2)
    assert same.key("data") == MEMBER.key("data")


@pytest.mark.parametrize("flip", [None, True, False])
def test_json_round_trip(flip):
    member = dataclasses.replace(MEMBER, flip=flip)
    again = MemberConfig.from_dict(json.loads(json.dumps(member.to_dict())))
    assert again == member
    assert again.key("data") == member.key("data")
    assert isinstance(again.hidden, tuple)


# name: changes to the mapping (None removes), what the error says
BAD = {
    "unknown": ({"depth": 3}, "unknown field depth"),
    "missing": ({"lr": None}, "missing field lr"),
    "text for a number": ({"lr": "fast"}, "field lr got 'fast', must be a number > 0"),
    "nan": ({"lr": float("nan")}, "field lr got nan, must be a number > 0"),
    "fraction for a count": ({"epochs": 1.5}, "field epochs got 1.5, must be a whole number"),
    "true for a count": ({"epochs": True}, "field epochs got true, must be a whole number"),
    "number for text": ({"basis": 3}, "field basis got 3, must be weight, activation or loss"),
    "number for a switch": ({"flip": 1}, "field flip got 1, must be auto, true or false"),
    "text for widths": ({"hidden": "512"}, "field hidden got '512', must be a list like"),
    "text in widths": ({"hidden": ["512"]}, "must be a list like .* of whole numbers"),
}


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD)
def test_bad_mapping(changes, says):
    values = MEMBER.to_dict() | changes
    if "missing" in says:
        del values["lr"]
    with pytest.raises(ValueError, match=says):
        MemberConfig.from_dict(values)


def test_every_fault_is_named():
    values = MEMBER.to_dict() | {"depth": 3, "lr": "fast", "epochs": "ten"}
    with pytest.raises(ValueError, match=r"unknown field depth; field epochs .*; field lr ") as caught:
        MemberConfig.from_dict(values)
    assert str(caught.value).count(";") == 2


def test_seeds_differ_and_stay_in_range():
    seeds = {member_seed(search, number) for search in range(10) for number in range(200)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert member_seed(1, 11) != member_seed(11, 1)


def test_seed_is_the_same_in_every_process():
    # printed once by member_seed(0, 0) and kept, as the key is
    assert member_seed(0, 0) == 713683445
