"""Records survive JSON unchanged, and refuse what is not a whole record."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsvd import OperatingPoint
from arsvd.evaluation.latency import Latency
from arsvd.json_fields import SINCE
from sweeps.config import MemberConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import (
    FAILED,
    FINISHED,
    Baseline,
    Front,
    FrontPoint,
    MemberRecord,
    TestMetrics,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHARE, PART = st.floats(0, 1), st.floats(0, 1, exclude_max=True)
RATE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
TIME = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
COUNT = st.integers(0, 2**53)
SIZE = st.integers(1, 2**53)  # no model stores nothing
TEXT = st.text(max_size=20)

points = st.builds(
    OperatingPoint,
    ranks=st.lists(st.none() | st.integers(1, 4096), min_size=1, max_size=5).map(tuple),
    params=SIZE,
    macs=COUNT,
    accuracy=SHARE,
    macro_f1=SHARE,
    loss=FINITE,
    family=st.sampled_from(["dense", "energy", "entropy", "budget", "fixed", "recovered"]),
    basis=st.sampled_from([None, "weight", "activation"]),
    threshold=st.none() | SHARE,
)
configs = st.builds(
    MemberConfig,
    hidden=st.lists(st.integers(1, 4096), min_size=1, max_size=4).map(tuple),
    factors=st.integers(1, 4),
    dropout=PART,
    epochs=st.integers(1, 100),
    batch_size=st.integers(1, 4096),
    lr=RATE,
    weight_decay=st.floats(min_value=0, allow_infinity=False),
    label_smoothing=PART,
    schedule=st.sampled_from(["onecycle", "cosine"]),
    flip=st.none() | st.booleans(),
    basis=st.sampled_from(["weight", "activation"]),
    rule=st.sampled_from(["energy", "entropy"]),
    energy=st.floats(0, 1, exclude_min=True),
    calibration=st.integers(2, 10**9),
    finetune_epochs=st.integers(0, 10**7),
    finetune_points=st.integers(1, 10**7),
    finetune_lr=RATE,
    distillation_weight=SHARE,
    distillation_temperature=RATE,
    seed=st.integers(0, 2**31),
)
records = st.builds(
    MemberRecord,
    key=TEXT,
    number=COUNT,
    status=st.sampled_from([FINISHED, FAILED]),
    cause=st.none() | TEXT,
    config=configs,
    curves=st.dictionaries(TEXT, st.lists(FINITE, max_size=5), max_size=3),
    dense=st.none() | points,
    asked=st.none() | points,
    points=st.lists(points, max_size=4).map(tuple),
    baselines=st.dictionaries(TEXT, st.lists(points, max_size=2).map(tuple), max_size=2),
    seconds=st.dictionaries(TEXT, FINITE, max_size=3),
    weights_sha256=TEXT,
)
front_points = st.builds(
    FrontPoint,
    key=TEXT,
    number=COUNT,
    point=points,
    test=st.none() | st.builds(TestMetrics, accuracy=SHARE, macro_f1=SHARE, loss=FINITE),
    assured=st.none() | SHARE,
    latency=st.lists(
        st.builds(
            Latency,
            batch=COUNT,
            threads=COUNT,
            device=st.sampled_from(["cpu", "cuda"]),
            repeats=COUNT,
            median_us=TIME,
            p95_us=TIME,
            dense_median_us=TIME,
            dense_p95_us=TIME,
        ),
        max_size=2,
    ).map(tuple),
)


@st.composite
def fronts(draw: st.DrawFn) -> Front:
    listed = tuple(draw(st.lists(front_points, max_size=4, unique=True)))
    return Front(
        points=listed,
        hypervolume=draw(SHARE),
        baselines=draw(
            st.dictionaries(
                TEXT,
                st.builds(Baseline, st.lists(front_points, max_size=2).map(tuple), SHARE, st.none() | SHARE),
                max_size=2,
            )
        ),
        reference_params=draw(SIZE),
        reference_macs=draw(COUNT),
        dense_accuracy=draw(SHARE),
        best=draw(st.sampled_from([None, *listed])),
        validation_images=draw(COUNT),
        confidence=draw(st.none() | SHARE),
        dense=draw(st.none() | front_points),
        reference=draw(st.none() | front_points),
    )


def through_json(values: dict[str, Any]) -> dict[str, Any]:
    again: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return again


def test_a_baseline_of_an_older_release_says_nothing_of_the_others(new_point: Callable[..., Any]) -> None:
    entry = FrontPoint("k", 1, new_point(10, 0.5))
    whole = Front((entry,), 0.5, {"fixed": Baseline((entry,), 0.4, 0.5)}, 100, 90, 0.6, entry, 50).to_dict()
    del whole["baselines"]["fixed"]["others_hypervolume"]
    assert Front.from_dict(whole).baselines["fixed"] == Baseline((entry,), 0.4)


@settings(max_examples=50, deadline=None)
@given(records)
def test_a_member_record_survives_json(record: MemberRecord) -> None:
    assert MemberRecord.from_dict(through_json(record.to_dict())) == record


@settings(max_examples=50, deadline=None)
@given(fronts())
def test_a_front_survives_json(front: Front) -> None:
    again = Front.from_dict(through_json(front.to_dict()))
    assert again == front
    assert again.best is None or any(again.best is point for point in again.points)


def test_every_field_is_needed_and_no_other_is_taken(new_record: Callable[..., MemberRecord]) -> None:
    whole = new_record(0, [(100, 0.9)]).to_dict()
    names = [field.name for field in fields(MemberRecord)]
    assert len(names) >= 12
    for name in names:
        with pytest.raises(ValueError, match=f"missing {name}"):
            MemberRecord.from_dict({key: value for key, value in whole.items() if key != name})
    with pytest.raises(ValueError, match="not a whole member record: unknown colour, unknown taste"):
        MemberRecord.from_dict({**whole, "taste": 1, "colour": 2})


def test_every_field_of_a_front_is_needed_and_no_other_is_taken(new_point: Callable[..., Any]) -> None:
    entry = FrontPoint("k", 1, new_point(10, 0.5))
    whole = Front((entry,), 0.5, {}, 100, 90, 0.6, entry, 50).to_dict()
    later = {field.name for field in fields(Front) if SINCE in field.metadata}
    assert later == {"dense", "reference", "test_images", "confirmation_images"}
    older = {key: value for key, value in whole.items() if key not in later}
    assert Front.from_dict(older) == Front.from_dict(whole)  # a front that release 0.1.0 wrote
    names = [field.name for field in fields(Front) if field.name not in later]
    assert len(names) >= 8
    for name in names:
        with pytest.raises(ValueError, match=f"missing {name}"):
            Front.from_dict({key: value for key, value in whole.items() if key != name})
    with pytest.raises(ValueError, match="not a whole front: unknown colour"):
        Front.from_dict({**whole, "colour": 2})
    point = whole["points"][0]
    for name in point:
        less = {key: value for key, value in point.items() if key != name}
        with pytest.raises(ValueError, match=f"missing {name}"):
            Front.from_dict({**whole, "points": [less]})
    with pytest.raises(ValueError, match="unknown taste"):
        Front.from_dict({**whole, "points": [{**point, "taste": 1}]})


# name: a change of a whole record, the error's text
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a newer version": ({"version": 3}, "a member record of version 3, written by a newer release than this"),
    "version 0": ({"version": 0}, "a member record of version 1 to 2 is needed, got version 0"),
    "no version": ({"version": None}, "got version None"),
    "unknown status": ({"status": "running"}, "a member is finished or failed, got the status 'running'"),
    "configuration is text": ({"config": "fast"}, "not a member's configuration"),
    "configuration is a number": ({"config": 3}, "not a whole member record"),
    "dense lacks its fields": (
        {"dense": {"params": 3}},
        "not a whole operating point: missing accuracy",
    ),
    "points are a number": ({"points": 3}, "not a whole member record"),
    "a point is a number": ({"points": [3]}, "not a whole member record"),
    "baselines are a list": ({"baselines": []}, "not a whole member record"),
}


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_values_other_than_a_record_are_refused(
    new_record: Callable[..., MemberRecord], change: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        MemberRecord.from_dict({**new_record(0, [(100, 0.9)]).to_dict(), **change})


@pytest.mark.parametrize("values", [[], None, 3, "text"])
def test_values_other_than_a_mapping_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="a member record of version 1 to 2 is needed, got version None"):
        MemberRecord.from_dict(values)
    with pytest.raises(ValueError, match="a front of version 1 to 2 is needed, got version None"):
        Front.from_dict(values)


def test_numbers_that_are_not_finite_are_never_filed(
    tmp_path: Path, new_record: Callable[..., MemberRecord]
) -> None:
    record = replace(new_record(0), curves={"train_loss": [1.0, float("inf")]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Ledger(tmp_path).write_member(record)
    assert list(tmp_path.iterdir()) == []
