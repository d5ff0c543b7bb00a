"""The sweeps' home must be the same place on every node: proven by files that go there and back."""

from pathlib import Path
from typing import Any

import pytest

from cluster import shared

CHECK = """
import sys
from cluster.attach import ray_session
from cluster.shared import SharedStorageError, check_shared_storage
with ray_session("auto"):
    for place in sys.argv[1:]:
        try:
            check_shared_storage(place)
            print("shared")
        except SharedStorageError as error:
            print(error)
"""


def test_a_node_answers_and_leaves_no_directory_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_APPEAR_SECONDS", 0)
    missing = tmp_path / "mount" / "home"
    said = shared._look(str(missing), "probe", "answer", "token")
    assert said == f"has no such directory as {missing}: it is not shared"
    assert list(tmp_path.iterdir()) == []
    missing.mkdir(parents=True)
    said = shared._look(str(missing), "probe", "answer", "token")
    assert said == f"does not see the file that was just written to {missing}: it is not shared"
    assert list(missing.iterdir()) == []
    (missing / "probe").write_text("token")
    assert shared._look(str(missing), "probe", "answer", "token") is None
    assert (missing / "answer").read_text() == "token"


@pytest.mark.slow
def test_shared_unshared_and_unusable_places_are_told_apart(three_nodes: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # a path that every process finds somewhere else: what a local disk is to the nodes of a real cluster
    unshared = "/proc/self/cwd/home"
    done = three_nodes.python(
        CHECK, str(tmp_path / "new" / "home"), unshared, str(tmp_path / "file" / "home")
    )
    assert done.returncode == 0, done.stderr
    shared, refused, unusable = done.stdout.splitlines()
    assert shared == "shared"
    assert list((tmp_path / "new" / "home").iterdir()) == []
    assert f"has no such directory as {unshared}: it is not shared" in refused
    assert "ARSVD_HOME (or --home) on storage that all nodes mount at the same path, or s3://" in refused
    assert "nothing can be written to" in unusable
    assert "Not a directory" in unusable
    assert list((three_nodes.path / "home").iterdir()) == []


@pytest.mark.slow
def test_a_bucket_is_checked_from_every_node(three_nodes: Any, start_cluster: Any) -> None:
    server = pytest.importorskip("moto.server", reason="moto[server] stands in for S3")
    import boto3

    bucket_server = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    bucket_server.start()
    try:
        host, port = bucket_server.get_host_and_port()
        access = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in access.items():
                patch.setenv(name, value)
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="sweeps")
            home = start_cluster(2)  # its nodes inherit the access, as real ones do
        seen = home.python(CHECK, "s3://sweeps/home", "s3://nothing/home", **access)
        assert seen.returncode == 0, seen.stderr
        shared, missing = seen.stdout.splitlines()
        assert shared == "shared"
        assert "nothing can be written to s3://nothing/home here" in missing
        # the driver has access, the nodes of the other cluster do not
        blind = three_nodes.python(CHECK, "s3://sweeps/home", **access)
        assert "cannot use s3://sweeps/home" in blind.stdout, blind.stderr
    finally:
        bucket_server.stop()
