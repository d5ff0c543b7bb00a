"""Sweeps as jobs of a cluster: shipped, run to the end, listed, read, and stopped in order."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import sweeps

# A sweep that takes a minute at least, stopped as soon as its first members are on file; then resumed.
STOP = """
import json, os, subprocess, sys, time
from pathlib import Path
from cluster.jobs import open_job_server

def arsvd(*arguments):
    done = subprocess.run([sys.executable, "-m", "sweeps.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

def waited(reached, seconds=300):
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, server.logs(job)
        time.sleep(0.5)

home = Path(os.environ["ARSVD_HOME"])
options = ["search.trials=40", "training.epochs=3", "resources.pack=1", "--no-wait", "--json"]
job = json.loads(arsvd("submit", "digits", *options))["job"]
server = open_job_server()
waited(lambda: len(list(home.glob("sweeps/*/members/*.json"))) >= 2)
server.stop(job)
waited(lambda: server.job(job).final)
filed = len(list(home.glob("sweeps/*/members/*.json")))
(sweep,) = [path.name for path in home.glob("sweeps/*")]
seen = {"status": server.job(job).status, "log": server.logs(job), "filed": filed, "sweep": sweep}
trials = f"search.trials={filed + 2}"
seen["resumed"] = arsvd("submit", sweep, trials, "--resume")
seen["in all"] = len(list(home.glob("sweeps/*/members/*.json")))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_submitted_sweep_runs_to_the_end_on_shared_storage(three_nodes: Any, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text((Path(sweeps.__file__).parent / "configs" / "digits.yaml").read_text())
    (tmp_path / "private.txt").write_text("of no concern to the cluster")
    shared = tmp_path / "shared"
    secret = "hunter2-of-the-tracking-server"
    done = three_nodes.arsvd(
        "submit",
        str(config),
        "search.trials=3",
        "training.epochs=2",
        "select.max_drop=0.5",
        "--home",
        str(shared),
        MLFLOW_TRACKING_PASSWORD=secret,
        ARSVD_MARK="shipped along",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "members 3 of 3" in done.stdout
    assert "arsvd: MLFLOW_TRACKING_PASSWORD was not shipped" in done.stderr
    (sweep,) = (shared / "sweeps").iterdir()
    assert len(list((sweep / "members").glob("*.json"))) == 3
    assert (sweep / "report" / "front.html").exists()
    assert (shared / "mlflow.db").exists()

    at = ("--address", three_nodes.cluster.dashboard)
    jobs = json.loads(three_nodes.arsvd("jobs", "--json", *at, RAY_API_SERVER_ADDRESS="").stdout)
    job = next(one for one in jobs if one["about"] == "small")
    assert job["status"] == "SUCCEEDED"
    log = three_nodes.arsvd("logs", job["id"])
    assert log.returncode == 0
    assert "members 3 of 3" in log.stdout
    again = three_nodes.arsvd("logs", "--follow", job["id"])
    assert again.returncode == 0
    assert "members 3 of 3" in again.stdout

    # what the head node keeps of the job: this code, the sweep file, no secret
    kept = three_nodes.cluster.scratch
    (unpacked,) = {path.parent for path in kept.glob("ray/session_2*/runtime_resources/**/sweep.yaml")}
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")} == {
        "arsvd",
        "cluster",
        "mlflow_server",
        "sweeps",
        "sweep.yaml",
    }
    holders = [path for path in kept.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holders == []
    said = three_nodes.python(
        "import os\nfrom cluster.jobs import open_job_server\n"
        f"print(open_job_server()._client.get_job_info({job['id']!r}).runtime_env)"
    )
    assert "ARSVD_MARK" in said.stdout, said.stderr
    assert secret not in said.stdout


@pytest.mark.slow
def test_a_stopped_sweep_ends_in_order_and_is_resumed(three_nodes: Any, tmp_path: Path) -> None:
    done = three_nodes.python(STOP, ARSVD_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["status"] == "STOPPED"
    assert "ending the sweep in order" in seen["log"]
    assert "Traceback" not in seen["log"]
    assert 2 <= seen["filed"] < 40
    assert seen["in all"] == seen["filed"] + 2, seen["resumed"]
    assert f"arsvd show {seen['sweep']}" in seen["resumed"]


@pytest.mark.slow
def test_a_job_that_fails_says_so(three_nodes: Any) -> None:
    # a path on the loopback of every process: the nodes do not share it
    done = three_nodes.arsvd("submit", "digits", "search.trials=1", "--home", "/proc/self/cwd/home")
    assert done.returncode == 1, done.stdout
    assert "it is not shared" in done.stdout
    assert "failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_job_that_cannot_be_submitted_is_refused_at_once(three_nodes: Any, tmp_path: Path) -> None:
    dashboard = three_nodes.cluster.dashboard
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (
            ["submit", "digits"],
            {"RAY_API_SERVER_ADDRESS": ""},
            "which cluster? Give --address http://HEAD",
        ),
        (["submit", "digits", "search.trials=no"], {}, "search.trials"),
        (["jobs", "--address", "127.0.0.1:6379"], {}, "is no address of a dashboard"),
        (["jobs", "--address", "http://127.0.0.1:1"], {}, "no Ray dashboard answers at http://127.0.0.1:1"),
        (["jobs", "--address", dashboard], {"RAY_AUTH_TOKEN": "0" * 64}, "refuses the token, or wants one"),
        (["logs", "no-such-job"], {}, "has no job 'no-such-job': `arsvd jobs` lists them"),
        (["stop", "no-such-job"], {}, "has no job 'no-such-job'"),
        (["submit", "digits", "--home", "sweeps"], {}, "is relative to this machine's folder"),
        (
            ["submit", "digits"],
            {"ARSVD_HOME": ""},
            "where does the cluster keep the sweep? Give --home",
        ),
        (
            ["submit", "digits"],
            {"MLFLOW_TRACKING_URI": "https://me:hunter2@mlflow.example.org"},
            "the address in MLFLOW_TRACKING_URI holds a password",
        ),
        (
            ["submit", "SWEEP", "a=postgresql://me:hunter2@db/x", "--resume"],
            {},
            "hold an address with a password",
        ),
    ]
    for arguments, changes, message in cases:
        done = three_nodes.arsvd(*arguments, **changes)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert message in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr, arguments
        assert "hunter2" not in done.stderr + done.stdout, arguments
    assert os.listdir(tmp_path) == []
