"""One real sweep through the console script, shared by the tests of this folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeps.ledger.ledger import Ledger, sweep_ids
from sweeps.ledger.records import Front

MEMBERS = 6
EPOCHS = 4
OVERRIDES = (
    f"search.trials={MEMBERS}",
    f"training.epochs={EPOCHS}",
    "model.hidden={choice: [[12], [16], [12, 8]]}",
    "compression.finetune_epochs=1",
    "compression.energy.points=16",
    "select.max_drop=0.15",  # so that there is a best one whichever members end first
    "select.confidence=0.95",
)


@dataclass(frozen=True)
class Sweep:
    """What the command left."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    commit: str
    members: int = MEMBERS
    epochs: int = EPOCHS

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def ledger(self) -> Ledger:
        (name,) = sweep_ids(self.home)
        return Ledger.open(self.home, name)

    @property
    def front(self) -> Front:
        front = self.ledger.front()
        assert front is not None
        return front


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    work = folder / "work"
    work.mkdir()
    git = ["git", "-C", str(work), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Begin"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    environment["ARSVD_HOME"] = str(folder / "home")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("arsvd")), "sweep", "digits", *OVERRIDES],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert [path.name for path in work.iterdir()] == [".git"]  # everything is under ARSVD_HOME
    return Sweep(folder, done, commit.strip())


@pytest.fixture(autouse=True)
def _here(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    monkeypatch.setenv("ARSVD_HOME", str(sweep.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)
