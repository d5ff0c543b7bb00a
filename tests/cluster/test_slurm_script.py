"""The Slurm script runs a sweep for real, on one node; Slurm's own two commands are stand-ins."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "templates" / "slurm" / "sweep.sbatch"
# `srun` notes its arguments, drops its own options and runs the command here; `scontrol` lists the machines
STAND_INS = {
    "srun": '#!/bin/sh\necho "$@" >> "$SRUN_LOG"\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/sh\nprintf "%s\\n" $SLURM_JOB_NODELIST\n',
}
# For a test of the script alone: Ray only waits, its two nodes are there at once, and the sweep says how it
# was called and whether it would hear Ctrl-C.
HOLLOW = {
    "ray": "#!/bin/sh\nexec sleep 300\n",
    "python": f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n'
    """echo '{"nodes": [{"alive": 1}, {"alive": 1}]}'\n""",
    "arsvd": f"#!{sys.executable}\nimport signal, sys\n"
    "print(*sys.argv[1:], signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n",
}


def write_programs(folder: Path, programs: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a job on one node of one core finds; every process of it can be told by its number."""
    write_programs(tmp_path / "programs", STAND_INS)
    activate = tmp_path / "venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    (tmp_path / "home").mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "ARSVD_", "SLURM_", "TUNE_")) and name != "SWEEP"
    }
    return kept | {
        "PATH": f"{tmp_path / 'programs'}:{kept['PATH']}",
        "ARSVD_VENV": str(tmp_path / "venv"),
        "ARSVD_HOME": str(tmp_path / "home"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_CPUS_ON_NODE": "1",
        "SRUN_LOG": str(tmp_path / "srun.log"),
        # on one machine Ray takes its outer address unless told that this is a machine of its own
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def start(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    """Start the script in the folder of its home; what it says goes to `said` there."""
    folder = Path(environment["ARSVD_HOME"]).parent
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            # bash cannot hear a signal that it was started to ignore, as these tests may have been
            ["env", "--default-signal=INT", "bash", str(SCRIPT), *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run(environment: dict[str, str], *arguments: str, seconds: float = 600) -> tuple[int, str]:
    """Run the script to its end; returns its exit status and what it said."""
    job = start(environment, *arguments)
    try:
        status = job.wait(seconds)
    finally:
        job.terminate()  # it ends Ray then too
        job.wait(60)
    return status, (Path(environment["ARSVD_HOME"]).parent / "said").read_text()


def left_behind(environment: dict[str, str]) -> list[str]:
    """Name what a job should not leave: its token, Ray's folder of sockets, its processes."""
    found = [str(path) for path in Path(environment["ARSVD_HOME"]).glob(".ray-token-*")]
    folders = set(re.findall(r"--temp-dir=(\S+)", Path(environment["SRUN_LOG"]).read_text()))
    assert folders
    found += [folder for folder in folders if Path(folder).exists()]
    ours = f"SLURM_JOB_ID={environment['SLURM_JOB_ID']}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if ours in path.read_bytes().split(b"\0") else []
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("sweep", "arguments", "command"),
    [
        ("", ["digits", "search.trials=2"], "sweep digits search.trials=2"),
        ("digits-1", [], "resume digits-1"),
        (
            "digits-1",
            ["--data-dir", "/shared/data", "--force"],
            "resume digits-1 --data-dir /shared/data --force",
        ),
    ],
)
def test_the_sweep_is_called_with_all_arguments_and_hears_ctrl_c(
    sweep: str, arguments: list[str], command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    write_programs(tmp_path / "hollow", HOLLOW)
    (tmp_path / "venv" / "bin" / "activate").write_text(f'export PATH="{tmp_path / "hollow"}:$PATH"\n')
    environment |= {"SWEEP": sweep, "SLURM_JOB_NODELIST": "127.0.0.1 127.0.0.2"}
    status, said = run(environment, *arguments, seconds=60)
    port = 20000 + 2 * (os.getpid() % 10000)
    assert status == 0, said
    assert said.splitlines()[0] == f"{command} --address 127.0.0.1:{port} True"
    # on every node Ray has made the folder of its sockets
    last = Path(environment["SRUN_LOG"]).read_text().splitlines()[-1]
    assert re.fullmatch(r"--nodes=2 --ntasks=2 --ntasks-per-node=1 rm -rf /tmp/ray-\w{6}", last)
    assert left_behind(environment) == []


@pytest.mark.slow
def test_the_script_runs_a_sweep_and_leaves_no_token(environment: dict[str, str]) -> None:
    status, said = run(environment, "digits", "search.trials=2", "training.epochs=2", "select.max_drop=0.5")
    assert status == 0, said[-3000:]
    assert "members 2 of 2" in said
    assert left_behind(environment) == []
    # a sweep that cannot start is the job's failure, and Ray ends all the same
    status, said = run(environment, "digits", "search.trials=none")
    assert status == 2
    assert "search.trials" in said
    assert left_behind(environment) == []


@pytest.mark.slow
def test_a_signal_ends_the_sweep_in_order_and_the_next_job_goes_on(environment: dict[str, str]) -> None:
    home = Path(environment["ARSVD_HOME"])

    def filed() -> int:
        return len(list(home.glob("sweeps/*/members/*.json")))

    settings = ("search.trials=40", "training.epochs=2", "resources.pack=1", "select.max_drop=0.5")
    job = start(environment, "digits", *settings)
    try:
        end = time.monotonic() + 400
        while not filed():
            ended = job.poll() is not None or time.monotonic() > end
            assert not ended, (home.parent / "said").read_text()[-3000:]
            time.sleep(0.1)
        job.send_signal(signal.SIGINT)
        status = job.wait(300)
    finally:
        job.terminate()
        job.wait(60)
    said = (home.parent / "said").read_text()
    (sweep,) = [path.name for path in (home / "sweeps").iterdir()]
    assert status == 130, said[-3000:]
    assert "go on with: " in said
    assert f"arsvd resume {sweep}" in said
    assert left_behind(environment) == []
    before = filed()
    assert 1 <= before < 36
    # two may have been asked for and not trained
    total = before + 4
    status, said = run(environment | {"SWEEP": sweep}, f"search.trials={total}")
    assert status == 0, said[-3000:]
    assert f"members {total} of {total}" in said
    assert left_behind(environment) == []
