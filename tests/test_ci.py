"""What `.ci/run` lets land, with a stand-in for `make`: nothing that fails three times."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci" / "run"

# says which targets were asked for, and fails as often as the test says for the one it names
MAKE = """#!/usr/bin/env bash
echo "$*" >> calls
case "$*" in
  *"$FAILING"*)
    failed=$(cat failed 2>/dev/null || echo 0)
    [ "$failed" -lt "$TIMES" ] || exit 0
    echo $((failed + 1)) > failed
    exit 1 ;;
esac
"""


def run_ci(folder: Path, failing: str, times: int) -> tuple[int, list[str]]:
    """Run a copy of `.ci/run` in an empty folder; returns its status and the targets that it made."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in {"make": MAKE, "apt-get": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    checkout = folder / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(CI, checkout / ".ci" / "run")
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FAILING": failing,
        "TIMES": str(times),
    }
    done = subprocess.run(["bash", ".ci/run"], cwd=checkout, env=environment, capture_output=True, timeout=60)
    return done.returncode, (checkout / "calls").read_text().splitlines()


@pytest.mark.parametrize("failing", ["lint", "test", " tests/faults", "ignore=tests/faults"])
def test_what_fails_each_time_does_not_land(tmp_path: Path, failing: str) -> None:
    status, _ = run_ci(tmp_path, failing, times=3)
    assert status != 0


@pytest.mark.parametrize("failing", [" tests/faults", "ignore=tests/faults"])
def test_slow_tests_that_pass_at_the_third_try_land(tmp_path: Path, failing: str) -> None:
    status, calls = run_ci(tmp_path, failing, times=2)
    assert status == 0
    assert calls[:2] == ["lint", "test"]
    assert sum("--last-failed" in call for call in calls) == 2
