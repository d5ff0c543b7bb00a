"""Ray on this machine: reachable from nowhere else, closed to who has no token, gone at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import local
from cluster.local import configure_ray

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

# Runs Ray for a moment and tells what it saw: processes, open ports, what a stranger is answered.
SCRIPT = '''
import json, os, pathlib, re, signal, subprocess, sys
from cluster.local import local_ray

def children():
    parents, names = {}, {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        pid, rest = int(path.parent.name), text.rpartition(")")[2]
        parents[pid], names[pid] = int(rest.split()[1]), text[text.index("(") + 1 : text.rindex(")")]
    found = [os.getpid()]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return {pid: names[pid] for pid in found}

def listening(pids):
    owners = {}
    for pid in pids:
        for link in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                owners[target[8:-1]] = pids[pid]
    found = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in owners:
                found.append((owners[fields[9]], fields[1].partition(":")[0]))
    return found

STRANGER = """
import sys
from ray._raylet import GcsClient
try:
    print("answered", len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)))
except Exception as error:
    print(type(error).__name__, error)
"""

def ask(address, **changes):
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
    asked = subprocess.run(
        [sys.executable, "-c", STRANGER, address], capture_output=True, text=True, env=environment | changes
    )
    return asked.stdout

def blocked(pid, number):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search("^SigBlk:\\s*(.*)$", text, re.MULTILINE)[1], 16) >> (number - 1) & 1)

def ours(number, frame):
    raise KeyboardInterrupt

seen = {}
signal.signal(signal.SIGTERM, ours)
try:
    with local_ray(1):
        import ray
        from ray._private import worker
        seen["SIGTERM is ours"] = signal.getsignal(signal.SIGTERM) is ours
        seen["takes SIGHUP"] = [name for pid, name in children().items() if not blocked(pid, signal.SIGHUP)]
        died = {"lines": ["Raylet is terminated."], "pid": "raylet", "is_err": False}
        worker.print_to_stdstream(died, ignore_prefix=False)
        seen["worker"] = ray.get(ray.remote(lambda: os.getpid() != 0).remote())
        seen["cpus"] = ray.cluster_resources()["CPU"]
        seen["processes"] = processes = children()
        seen["listening"] = listening(processes)
        seen["node"] = ray.nodes()[0]["NodeManagerAddress"]
        address = ray.get_runtime_context().gcs_address
        token = os.environ["RAY_AUTH_TOKEN"]
        seen["token_length"] = len(token)
        seen["in_the_open"] = any(
            token.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes
        )
        seen["with token"] = ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
        seen["without token"] = ask(address)
        seen["wrong token"] = ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        raise ValueError("the sweep failed")
except ValueError as error:
    seen["error"] = str(error)
seen["initialized"] = ray.is_initialized()
print(json.dumps(seen))
'''


@pytest.fixture(scope="module")
def seen() -> Any:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    # an address left over from other work must not draw the sweep to another cluster
    environment["RAY_ADDRESS"] = "203.0.113.1:6379"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()  # and nothing that Ray's services report
    return json.loads(line)


def test_ray_runs_with_the_cores_it_is_given(seen: dict[str, Any]) -> None:
    assert seen["worker"] is True
    assert seen["cpus"] == 1
    assert seen["node"] == "127.0.0.1"


def test_every_port_listens_on_the_loopback_address(seen: dict[str, Any]) -> None:
    names = set(seen["processes"].values())
    assert {"raylet", "gcs_server"} <= names
    assert {"raylet", "gcs_server"} <= {name for name, _ in seen["listening"]}
    assert len(seen["listening"]) >= 4
    assert {address for _, address in seen["listening"]} <= LOOPBACK


def test_signals_stay_with_the_process_that_starts_ray(seen: dict[str, Any]) -> None:
    assert seen["SIGTERM is ours"]
    # the process itself does, and the one that waits for its end, which ignores it
    assert sorted(name.partition(":")[0] for name in seen["takes SIGHUP"]) == ["python", "python"]


def test_a_stranger_is_refused(seen: dict[str, Any]) -> None:
    assert seen["with token"] == "answered 1\n"
    for who in ("without token", "wrong token"):
        assert "answered" not in seen[who]
        assert "auth" in seen[who].lower(), seen[who]
    assert seen["token_length"] == 64
    assert not seen["in_the_open"]


def test_nothing_remains_when_the_context_ends_even_by_an_error(seen: dict[str, Any]) -> None:
    assert seen["error"] == "the sweep failed"
    assert seen["initialized"] is False
    assert len(seen["processes"]) >= 5
    left = {}
    for pid, name in seen["processes"].items():
        stat = Path("/proc", pid, "stat")
        if stat.exists() and f"({name})" in stat.read_text() and ") Z" not in stat.read_text():
            left[pid] = name
    assert left == {}


def clear(patch: pytest.MonkeyPatch) -> None:
    for name in (*local._SETTINGS, *local.OWN_CLUSTER, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        patch.setenv(name, "")  # noted, so that it is put back
        patch.delenv(name)


def test_settings_in_the_users_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    configure_ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    configure_ray()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"


def test_each_process_draws_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    tokens = set()
    for _ in range(3):
        clear(monkeypatch)
        configure_ray()
        tokens.add(os.environ["RAY_AUTH_TOKEN"])
        configure_ray()
        tokens.add(os.environ["RAY_AUTH_TOKEN"])  # a second call changes nothing
    assert len(tokens) == 3
    assert all(len(token) == 64 for token in tokens)


def test_an_environment_that_comes_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    monkeypatch.setitem(sys.modules, "ray", local)
    with pytest.raises(RuntimeError, match=r"call configure_ray\(\) before anything imports Ray"):
        configure_ray()
    assert "RAY_AUTH_MODE" not in os.environ


def test_joining_a_cluster_takes_its_token_and_draws_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    clear(monkeypatch)
    configure_ray("10.0.0.1:6379")
    # no token anywhere: the cluster is taken to want none, and is not looked for on the loopback address
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    clear(monkeypatch)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("theirs")
    configure_ray("127.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
