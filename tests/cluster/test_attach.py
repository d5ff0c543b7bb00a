"""A driver joins a cluster, or is told at once and in one line why it cannot."""

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

JOIN = """
import os, signal, sys
from cluster.attach import ray_session
signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM is ours"))
with ray_session(sys.argv[1]):
    import ray
    alive = [node for node in ray.nodes() if node["Alive"]]
    print("nodes", len(alive), "cpus", ray.cluster_resources()["CPU"])
    print("task", ray.get(ray.remote(lambda: 6 * 7).remote()))
    os.kill(os.getpid(), signal.SIGTERM)
"""
JOINED = "nodes 3 cpus 3.0\ntask 42\nSIGTERM is ours\n"
# One line for each address that cannot be joined.
ATTEMPT = """
import sys
from cluster.attach import ray_session
from cluster.errors import ClusterError
for address in sys.argv[1:]:
    try:
        with ray_session(address):
            print("joined", address)
    except ClusterError as error:
        print(error)
"""
# What the head wrote down about itself is changed for a moment, as if it ran another version.
OTHER_VERSION = """
import json, sys
from cluster.attach import ray_session
from cluster.errors import ClusterError
with ray_session("auto"):
    from ray._raylet import GcsClient
    import ray
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    key, room = b"CLUSTER_METADATA", b"cluster"
    facts = client.internal_kv_get(key, namespace=room)
    client.internal_kv_put(key, json.dumps(json.loads(facts) | {"ray_version": "2.1.0"}).encode(), True, room)
    ray.shutdown()
    try:
        with ray_session("auto"):
            print("joined")
    except ClusterError as error:
        print(error)
    finally:
        client.internal_kv_put(key, facts, True, room)
"""


@pytest.fixture
def mute_server() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for connection in held:
            connection.close()


@pytest.mark.slow
def test_a_driver_joins_and_leaves_the_cluster_running(three_nodes: Any) -> None:
    for address in ("auto", three_nodes.cluster.address):
        joined = three_nodes.python(JOIN, address)
        assert joined.returncode == 0, joined.stderr
        assert joined.stdout == JOINED
    # an address in the environment is what `auto` means, and nothing else
    elsewhere = three_nodes.python(JOIN, three_nodes.cluster.address, RAY_ADDRESS="203.0.113.1:6379")
    assert elsewhere.stdout == JOINED, elsewhere.stderr
    assert three_nodes.cluster.running == 3


@pytest.mark.slow
def test_a_wrong_or_missing_token_is_reported_in_one_line(three_nodes: Any, tmp_path: Any) -> None:
    address = three_nodes.cluster.address
    cases = {
        "wrong": {"RAY_AUTH_TOKEN": "0" * 64},
        "none": {"RAY_AUTH_TOKEN_PATH": ""},
        "none, asked for": {"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_MODE": "token"},
    }
    for case, changes in cases.items():
        done = three_nodes.python(ATTEMPT, address, **changes)
        assert done.returncode == 0, (case, done.stderr)
        assert "token" in done.stdout, (case, done.stdout)
        assert "RAY_AUTH_TOKEN_PATH" in done.stdout, case
        assert len(done.stdout.splitlines()) == 1, (case, done.stdout)
    missing = three_nodes.python(ATTEMPT, address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "nothing"))
    assert "which cannot be read (No such file or directory)" in missing.stdout
    # and so says the command: one line, exit status 2
    command = three_nodes.arsvd("sweep", "digits", "--quiet", "--address", address, RAY_AUTH_TOKEN="0" * 64)
    assert command.returncode == 2
    assert len(command.stderr.splitlines()) == 1, command.stderr
    assert command.stderr.startswith(f"arsvd: the cluster at {address} refuses the token, or wants one: give")


@pytest.mark.slow
def test_an_address_without_a_cluster_is_reported_in_one_line(three_nodes: Any, mute_server: str) -> None:
    cases = {
        "127.0.0.1:1": "no Ray cluster answers at 127.0.0.1:1 (Connection refused)",
        "no-such-host.invalid:6379": "no Ray cluster answers at no-such-host.invalid:6379",
        mute_server: f"what answers at {mute_server} is no Ray cluster",
        "http://127.0.0.1:8265": "is the address of a dashboard, which takes jobs: `arsvd submit",
        "ray://127.0.0.1:10001": "is an address of Ray Client, which cannot run sweeps",
        "6379": "'6379' is no address of a cluster",
        "head:99999": "'head:99999' is no address of a cluster",
    }
    done = three_nodes.python(ATTEMPT, *cases)
    assert done.returncode == 0, done.stderr
    said = dict(zip(cases, done.stdout.splitlines(), strict=True))
    assert [address for address, message in cases.items() if message not in said[address]] == [], said


@pytest.mark.slow
def test_another_version_is_refused(three_nodes: Any) -> None:
    done = three_nodes.python(OTHER_VERSION)
    assert done.returncode == 0, done.stderr
    assert "runs Ray 2.1.0 on Python" in done.stdout
    assert "use the same versions, or `arsvd submit`" in done.stdout
    assert three_nodes.python(JOIN, "auto").stdout == JOINED


@pytest.mark.slow
def test_a_machine_outside_the_cluster_is_refused(three_nodes: Any) -> None:
    # a process namespace of its own sees none of the cluster's processes, as on another machine
    apart = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"]).returncode != 0:
        pytest.skip("this system does not let its users unshare namespaces")
    done = subprocess.run(
        [*apart, sys.executable, "-c", JOIN, three_nodes.cluster.address],
        capture_output=True,
        text=True,
        env=three_nodes.environment(),
        timeout=120,
    )
    assert f"this machine is no node of the cluster at {three_nodes.cluster.address}" in done.stderr
    assert "arsvd submit CONFIG" in done.stderr
