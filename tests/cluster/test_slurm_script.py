"""The Slurm script runs a sweep for real, on one node; Slurm's own two commands are stand-ins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "templates" / "slurm" / "sweep.sbatch"
# `srun` drops its own options and runs the command here; `scontrol` lists this machine
STAND_INS = {
    "srun": '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "scontrol": "#!/bin/sh\necho 127.0.0.1\n",
}


@pytest.mark.slow
def test_the_script_runs_a_sweep_and_leaves_no_token(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    activate = tmp_path / "venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "ARSVD_", "SLURM_", "TUNE_"))
    }
    environment |= {
        "PATH": f"{programs}:{environment['PATH']}",
        "ARSVD_VENV": str(tmp_path / "venv"),
        "ARSVD_HOME": str(home),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "one",
        "SLURM_CPUS_ON_NODE": "1",
        # on one machine Ray takes its outer address unless told that this is a machine of its own
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT), "digits", "search.trials=2", "training.epochs=2", "select.max_drop=0.5"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "members 2 of 2" in done.stdout + done.stderr
    assert list(home.glob(".ray-token-*")) == []
    # a sweep that cannot start is the job's failure, and Ray ends all the same
    failed = subprocess.run(
        ["bash", str(SCRIPT), "digits", "search.trials=none"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=600,
    )
    assert failed.returncode == 2
    assert "search.trials" in failed.stderr
    ours = f"SLURM_JOB_ID={os.getpid()}".encode()
    left = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            left += [path.parent.name] if ours in path.read_bytes().split(b"\0") else []
        except OSError:
            continue
    assert left == []
