"""Artifacts on S3, through `python -m mlflow_server` as the container runs it; and TLS."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server import ServerError, ServerSettings, serve
from mlflow_server.artifacts import check_artifacts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An S3-compatible server on loopback."""
    pytest.importorskip("boto3", reason="artifacts on S3 need boto3")
    moto = pytest.importorskip("moto.server", reason="needs moto[server], an S3 server for tests")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def _keys(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-store")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-store")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", store)
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.usefixtures("_keys")
def test_files_pass_through_the_server_into_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ServerError, match=r"the bucket 'mlflow' at http://127.* cannot be used .*404.*must exist"
    ):
        check_artifacts("s3://mlflow/artifacts")
    for _ in range(2):  # the second time there is nothing to do
        subprocess.run([sys.executable, "-m", "mlflow_server.bucket", "mlflow"], check=True, timeout=120)
    words = ["--port", "0", "--data", str(tmp_path / "data"), "--artifacts", "s3://mlflow/artifacts"]
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([sys.executable, "-m", "mlflow_server", *words], stdout=out, stderr=err)
    try:
        deadline = time.monotonic() + 180
        while "TRACKING_URI=" not in (tmp_path / "out").read_text():
            assert process.poll() is None, (tmp_path / "err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        address = (tmp_path / "out").read_text().strip().rpartition("=")[2]
        for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_S3"))]:
            monkeypatch.delenv(name)  # the client has no keys
        client = MlflowClient(address)
        run = client.create_run(client.create_experiment("files")).info.run_id
        (tmp_path / "front.html").write_text("the front")
        client.log_artifact(run, str(tmp_path / "front.html"))
        (tmp_path / "again").mkdir()
        assert (
            Path(client.download_artifacts(run, "front.html", str(tmp_path / "again"))).read_text()
            == "the front"
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "secret-of-the-store" not in (tmp_path / "data" / "server.log").read_text()
    assert not (tmp_path / "data" / "artifacts").exists()


@pytest.mark.usefixtures("_keys")
def test_the_bucket_holds_the_files(store: str) -> None:
    import boto3

    listed = boto3.client("s3", endpoint_url=store).list_objects_v2(Bucket="mlflow")["Contents"]
    assert [entry["Key"].split("/")[0] for entry in listed] == ["artifacts"]
    assert listed[0]["Key"].endswith("/artifacts/front.html")


def test_it_serves_https_with_a_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*words, "-out", str(certificate)], check=True, capture_output=True)
    with serve(ServerSettings(tmp_path / "data", port=0, tls=(certificate, key))) as server:
        assert server.address.startswith("https://127.0.0.1:")
        trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(certificate)))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
        with opener.open(f"{server.address}/health", timeout=30) as answer:
            assert answer.read() == b"OK"
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            plain.settimeout(30)
            assert b"OK" not in plain.recv(100)
