"""Single values that are kept as JSON or text: plans, the tags of registered models."""

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import arsvd
from arsvd import Plan
from sweeps.tracking.versions import RegisteredVersion, choose
from tests.fuzz.contract import Seed, Target
from tests.fuzz.mutation.json_text import mutate_json


@cache
def _plan() -> tuple[Seed, ...]:
    model = arsvd.MLP([6, 12, 8, 3])
    spectra = arsvd.spectra(model, calibration=torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
    plans = [arsvd.plan(spectra, rule) for rule in (arsvd.Energy(0.5), arsvd.Budget(params=150))]
    return tuple(Seed("plan.json", json.dumps(plan.to_dict()).encode()) for plan in plans)


def _read_plan(path: Path) -> None:
    try:
        values: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # the caller's own reading: a plan is built from values
    plan = Plan.from_dict(values)
    _ = plan.ranks, plan.ratio, json.dumps(plan.to_dict(), allow_nan=False)


@cache
def _tags() -> tuple[Seed, ...]:
    version = RegisteredVersion(
        name="arsvd-digits",
        version=3,
        sweep="digits-1",
        member="0" * 20,
        data_hash="5eed" * 16,
        ranks=(4, None, 2),
        basis="activation",
        family="energy",
        params=120,
        macs=100,
        validation_accuracy=0.95,
        dense_accuracy=0.96,
        assured_accuracy=0.94,
        test_accuracy=0.93,
        sha256="ab" * 32,
        model_id="m-1",
    )
    return (Seed("tags.json", json.dumps(version.to_tags()).encode()),)


def _read_tags(path: Path) -> None:
    try:
        values: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if not isinstance(values, dict):
        return
    # MLflow hands out text, whatever its store holds
    tags = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    version = RegisteredVersion.from_tags("arsvd-digits", 3, tags)
    _ = json.dumps(version.to_dict(), allow_nan=False), version.point
    choose([version], max_params=10**9)


_PLAIN = partial(
    Target, place=lambda folder, name: folder / name, mutate=mutate_json, examples=60, special=False
)

TARGETS = (
    _PLAIN(name="plan", seeds=_plan, read=_read_plan, refusals=(ValueError,)),
    _PLAIN(name="version-tags", seeds=_tags, read=_read_tags, refusals=(ValueError, LookupError)),
)
