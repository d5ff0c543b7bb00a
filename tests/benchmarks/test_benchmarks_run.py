"""Every benchmark runs to its end at the smallest size and ends with a line of JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, results: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--tiny", "--results", str(results), *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    last = json.loads(done.stdout.splitlines()[-1])
    filed = json.loads((results / f"{name}-tiny.json").read_text(encoding="utf-8"))
    assert last["benchmark"] == filed["benchmark"] == name
    assert filed["summary"].items() <= last.items()
    assert filed["environment"]["versions"]["torch"]
    assert filed["n"] >= 1
    assert filed["seeds"]
    return filed


@pytest.mark.slow
def test_inference_needs_torch_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for service in ("ray", "optuna", "mlflow", "pydantic"):
        (blocked / f"{service}.py").write_text("raise ImportError('not here')\n", encoding="utf-8")
    path = os.pathsep.join([str(blocked), os.environ.get("PYTHONPATH", "")])
    found = run("inference", tmp_path, PYTHONPATH=path)

    assert {row["way"] for row in found["models"]} >= {"eager"}
    assert all(row["speedup"] > 0 for row in found["models"])


@pytest.mark.slow
def test_overhead_accounts_for_the_time_of_every_core(tmp_path: Path) -> None:
    found = run("overhead", tmp_path)

    assert found["members"] == 2
    assert found["failed"] == 0
    assert found["ratios"]["training"] > found["ratios"]["work"] > 1
    assert sum(found["phases"].values()) == pytest.approx(found["wall_seconds"], rel=0.1)
    names = {process["name"] for process in found["processes"]}
    assert "driver" in names
    assert any(name.startswith("ray::") and name.endswith("Trainable") for name in names)


@pytest.mark.slow
def test_scale_measures_every_storage(tmp_path: Path) -> None:
    found = run("scale", tmp_path)

    assert {row["storage"] for row in found["asks"]} == {"memory", "ledger"}
    assert all(row["rate"] > 0 for row in found["simulation"])
    assert {row["mean_seconds"] for row in found["simulation"]} == {30, 10, 3}
    assert found["tune_term"]["how"] == "not measured"


@pytest.mark.slow
def test_naive_runs_both_sweeps(tmp_path: Path) -> None:
    if not (Path(os.environ.get("ARSVD_DATA", "")) / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not at hand: set ARSVD_DATA")
    found = run("naive", tmp_path)

    assert [row["step"] for row in found["parts"]] == ["plain", "thresholds", "sweep"]
    assert len(found["naive"]["plain"]) == 2
    assert set(found["naive"]["plain"][0]["drawn"]) > {"hidden", "lr", "energy"}
    assert next(iter(found["summary"])) == "times_faster_by_trials"
