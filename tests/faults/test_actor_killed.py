"""Fault 1: a trial's process is killed in the middle of its training."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arsvd.training import MemberState, StateError
from sweeps.ledger.asked import read_asked
from sweeps.ledger.ledger import Ledger, sweep_ids
from sweeps.ledger.records import FINISHED
from sweeps.trial.weights import load_member

MEMBERS, PACK, EPOCHS = 3, 2, 60
EVERY = 0.2  # seconds between checkpoints
DEADLINE = 900.0
OVERRIDES = (
    f"search.trials={MEMBERS}",
    f"resources.pack={PACK}",
    "resources.concurrent=1",
    f"resources.checkpoint_every={EVERY}",
    f"training.epochs={EPOCHS}",
    "training.batch_size=8",
    "model.hidden=[48, 24]",
    "model.reference=[48, 24]",
    "model.factors=1",
    "compression.families=[threshold]",
    "compression.finetune_epochs=0",
)


def actors(root: int) -> set[int]:
    """Find the processes of trials among the descendants of a process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue  # it has just ended
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found, new = {root}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    # Tune's wrappers name the process while it trains
    return {pid for pid in found if re.match(r"ray::\w*Trainable\.train", title(pid))}


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


class Watch:
    """Reads the checkpoints of a running sweep."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.history: dict[str, list[int]] = {}

    def look(self) -> None:
        for path in (self._home / "sweeps").glob("*/members/*.checkpoint.safetensors"):
            try:
                state = MemberState.from_bytes(path.read_bytes())
            except (FileNotFoundError, StateError):
                continue  # the member has just been filed
            steps = self.history.setdefault(path.name.split(".")[0], [])
            if not steps or steps[-1] != state.steps:
                steps.append(state.steps)


@pytest.mark.slow
def test_a_killed_trial_goes_on_from_its_checkpoints_and_so_do_its_pack_mates(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    environment |= {"ARSVD_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    watch, killed = Watch(tmp_path), None
    deadline = time.monotonic() + DEADLINE
    with (tmp_path / "output").open("wb") as output:
        sweep = subprocess.Popen(
            [str(Path(sys.executable).with_name("arsvd")), "sweep", "digits", *OVERRIDES],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            before: dict[str, int] = {}
            while sweep.poll() is None:
                assert time.monotonic() < deadline, "the sweep did not end"
                time.sleep(EVERY / 2)
                watch.look()
                if killed is None and sum(len(steps) >= 4 for steps in watch.history.values()) == PACK:
                    (killed,) = actors(sweep.pid)
                    os.kill(killed, signal.SIGKILL)
                    watch.look()
                    before = {key: steps[-1] for key, steps in watch.history.items()}
        finally:
            if sweep.poll() is None:
                sweep.terminate()
                sweep.wait(60)
    text = (tmp_path / "output").read_text()
    assert sweep.returncode == 0, text[-5000:]
    assert killed is not None, "no member trained long enough to be killed"
    (name,) = sweep_ids(tmp_path)
    ledger = Ledger.open(tmp_path, name)
    records = ledger.members()
    assert [(r.number, r.status) for r in records] == [(number, FINISHED) for number in range(MEMBERS)]
    assert len(before) == PACK
    for record in records:
        assert all(len(curve) == EPOCHS for curve in record.curves.values())
        load_member(ledger.weights(record.key))
        assert ledger.read_checkpoint(record.key) is None
    for key, steps in before.items():
        history = watch.history[key]
        # a training that began anew would have left a checkpoint of fewer steps: four intervals were done
        assert history == sorted(history), f"member {key} was trained from its beginning"
        assert history[-1] > steps  # another process went on
    asked = read_asked(ledger, MEMBERS, pytest.fail)
    assert [(member.number, member.key) for member in asked] == [(r.number, r.key) for r in records]
