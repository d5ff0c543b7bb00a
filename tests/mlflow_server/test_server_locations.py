"""What an account that may only read can have the server read, write and call: nothing but artifacts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from mlflow_server.application import shut_service
from mlflow_server.locations import check_location, check_source

READER = ("reader", "reads and loads")
API = "/api/2.0/mlflow"

# Each would be a place outside the server's artifacts for some reader of addresses.
OUTSIDE = [
    "file:///{place}",
    "FILE:///{place}",
    "file:{place}",
    "file://localhost{place}",
    "{place}",
    " file://{place}",
    "relative/folder",
    "../outside",
    "\\\\host\\share",
    "C:\\outside",
    "http://127.0.0.1:1/x",
    "http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/x",
    "s3://bucket/x",
    "ftp://127.0.0.1/x",
    "dbfs:/x",
    "hdfs://127.0.0.1/x",
    "runs:/0/x",
    "mlflow-artifacts:/../outside",
    "mlflow-artifacts:/a/../../outside",
    "mlflow-artifacts:/a/..",
    "mlflow-artifacts:..",
    "mlflow-artifacts:/%2e%2e/outside",
    "mlflow-artifacts:/%252e%252e%252foutside",
    "mlflow-artifacts:/a%2F..%2Foutside",
    "mlflow-artifacts:/..\\outside",
    "mlflow-artifacts:/a%5c..%5coutside",
    "mlflow-artifacts://127.0.0.1:1/x",
    "mlflow-artifacts:////x",
    "MLFLOW-ARTIFACTS:/../outside",
    "mlflow-artifacts:/a?x=/../..",
    "mlflow-artifacts:/a#/../..",
    "mlflow-artifacts:/a%3Fx",
    "mlflow-artifacts:/a\n/b",
]
INSIDE = [
    None,
    "",
    "mlflow-artifacts:",
    "mlflow-artifacts:/",
    "mlflow-artifacts:/mine",
    "mlflow-artifacts:/a b/c..d",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_a_place_outside_is_refused(location: str) -> None:
    with pytest.raises(
        MlflowException, match=r"(?s)artifact location .* is refused: leave it out, or give"
    ) as told:
        check_location(location.replace("{place}", "/tmp/x"))
    assert told.value.get_http_status_code() == 400


@pytest.mark.parametrize("location", INSIDE)
def test_a_place_inside_is_taken(location: str | None) -> None:
    check_location(location)


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:1/x",
        "HTTPS://host/x",
        "s3://bucket/x",
        "gs://bucket/x",
        "ftp://host/x",
        "dbfs:/x",
        "mlflow-artifacts://127.0.0.1/x",
        "mlflow-artifacts:/../x",
        "models:/m-1/%2e%2e/x",
        "runs:/1/../x",
        "file:///a/../b",
    ],
)
def test_a_source_elsewhere_is_refused(source: str) -> None:
    with pytest.raises(MlflowException, match=r"source .* is refused: register a model that was logged"):
        check_source(source)


@pytest.mark.parametrize(
    "source", ["models:/m-1", "models:/name/1", "runs:/1/model", "mlflow-artifacts:/1/models/m"]
)
def test_a_source_here_is_taken(source: str) -> None:
    check_source(source)


@pytest.mark.parametrize(
    ("path", "shut"),
    [
        ("/ajax-api/3.0/mlflow/assistant/config", True),
        ("//ajax-api//3.0/mlflow/assistant", True),
        ("/gateway/proxy/x/y", True),
        ("/gateway/x/mlflow/invocations", True),
        ("/ajax-api/2.0/mlflow/gateway-proxy", True),
        ("/api/3.0/mlflow/gateway/secrets/create", True),
        ("/api/2.0/mlflow/webhooks/1/test", True),
        ("/ajax-api/3.0/jobs", True),
        ("/ajax-api/3.0/jobs/search", True),
        ("/ajax-api/3.0/mlflow/scorer/invoke", True),
        ("/api/3.0/mlflow/prompt-optimization/jobs", True),
        ("/api/2.0/mlflow/artifacts/presigned-upload-url", True),
        ("/api/2.0/mlflow/artifacts/list", False),
        ("/api/3.0/mlflow/scorers/list", False),
        ("/api/2.0/mlflow-artifacts/artifacts/1/2/artifacts/gateway/jobs/mlflow/webhooks", False),
        ("/static-files/gateway/x.js", False),
        ("/", False),
    ],
)
def test_services_that_run_or_call_for_clients_are_closed(path: str, shut: bool) -> None:
    assert (shut_service(path) is not None) == shut


@pytest.fixture(scope="module")
def server(command: Callable) -> Any:
    server = command("--auth")
    account = json.dumps(dict(zip(("username", "password"), READER, strict=True)))
    assert server.ask(f"{API}/users/create", "POST", account, user=server.admin)[0] == 200
    return server


@pytest.fixture
def reader(server: Any, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", READER[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", READER[1])
    return MlflowClient(server.address)


def ask(server: Any, method: str, path: str, body: object = None) -> tuple[int, str]:
    return server.ask(path, method, None if body is None else json.dumps(body), user=READER)


def spans(attributes: dict[str, str]) -> bytes:
    """Return a trace of one span as OpenTelemetry's clients send it."""
    span = Span(trace_id=bytes([len(attributes)] * 16), span_id=b"12345678", name="x")
    span.start_time_unix_nano, span.end_time_unix_nano = 1, 2
    for key, value in attributes.items():
        span.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]
    ).SerializeToString()


def test_a_reader_writes_and_reads_nowhere_else(server: Any, reader: MlflowClient, tmp_path: Path) -> None:
    place = tmp_path / "outside"
    for number, location in enumerate(OUTSIDE[::5]):  # every one is tried above
        body = {"name": f"e{number}", "artifact_location": location.replace("{place}", str(place))}
        prefix = ("/api", "/ajax-api")[number % 2]
        status, text = ask(server, "POST", f"{prefix}/2.0/mlflow/experiments/create", body)
        assert (status, '"message": ' in text) == (400, True), (location, text)
    assert {each.name for each in reader.search_experiments()} == {"Default"}

    own = reader.create_experiment("own")
    run = reader.create_run(own).info.run_id
    reader.create_registered_model("own")
    for source in ("file:///etc", "/etc", "http://127.0.0.1:1/x", "s3://b/x", "mlflow-artifacts:/../x"):
        body = {"name": "own", "source": source, "run_id": run}
        assert ask(server, "POST", f"{API}/model-versions/create", body)[0] == 400, source

    trace = {
        "trace_id": "tr-1",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": own}},
    }
    trace |= {"request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    for change in (
        {"trace_id": "../../../x"},
        {"trace_id": "%2e%2e/x"},
        {"tags": {"mlflow.artifactLocation": f"file://{place}"}},
        {"tags": {"mlflow.trace.archiveLocation": f"file://{place}"}},
    ):
        status, text = ask(
            server, "POST", "/api/3.0/mlflow/traces", {"trace": {"trace_info": {**trace, **change}}}
        )
        assert (status, "refused" in text) == (400, True), text
    started = ask(server, "POST", "/api/3.0/mlflow/traces", {"trace": {"trace_info": trace}})
    assert started[0] == 200, started
    for version in ("2.0", "3.0"):
        tag = {"key": "mlflow.artifactLocation", "value": f"file://{place}"}
        assert ask(server, "PATCH", f"/api/{version}/mlflow/traces/tr-1/tags", tag)[0] == 400
    body = {
        "experiment_id": own,
        "timestamp_ms": 1,
        "tags": [{"key": "mlflow.artifactLocation", "value": "file:///etc"}],
    }
    assert ask(server, "POST", f"{API}/traces", body)[0] == 400

    status, text = ask(server, "POST", f"{API}/traces", {"experiment_id": own, "timestamp_ms": 1})
    begun = json.loads(text)["trace_info"]
    ended = {"timestamp_ms": 2, "status": "OK", "tags": body["tags"]}
    status, text = ask(server, "PATCH", f"{API}/traces/{begun['request_id']}", ended)
    kept = {tag["key"]: tag["value"] for tag in json.loads(text)["trace_info"]["tags"]}
    assert kept["mlflow.artifactLocation"].startswith("mlflow-artifacts:/")

    for attribute, status in (
        ("mlflow.traceTag.mlflow.artifactLocation", 400),
        ("mlflow.traceTag.team", 200),
    ):
        sent = requests.post(
            f"{server.address}/v1/traces",
            spans({attribute: '"file:///etc"'}),
            headers={"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": own},
            auth=READER,
            timeout=60,
        )
        assert sent.status_code == status, sent.text

    for spelled in ("%2e%2e/x", "%252e%252e/x"):
        for folder in ("/api/2.0/mlflow-artifacts/artifacts/", "/ajax-api/2.0/mlflow-artifacts/artifacts/"):
            assert ask(server, "PUT", folder + spelled, "x")[0] in (400, 403, 404), spelled
            assert ask(server, "GET", folder + spelled)[0] in (400, 403, 404), spelled
        for method, path in (
            ("GET", f"/get-artifact?run_uuid={run}&path={spelled}"),
            ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={spelled}"),
            ("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={spelled}"),
            ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={spelled}"),
        ):
            assert ask(server, method, path, "x" if method == "POST" else None)[0] in (400, 403, 404), path
    for path in (
        "/api/2.0/mlflow/webhooks",
        "/ajax-api/3.0/jobs/",
        "/ajax-api/3.0/mlflow/scorer/invoke",
        "/ajax-api/3.0/mlflow/genai/evaluate/invoke",
        "/ajax-api/3.0/mlflow/demo/generate",
        "/gateway/proxy/x/y",
        "/api/3.0/mlflow/gateway/secrets/create",
    ):
        status, text = ask(server, "POST", path, {})
        assert (status, text.endswith(" switched off\n")) == (404, True), path
    assert not place.exists()
    assert sorted(path.name for path in server.data.iterdir()) == [
        "accounts.db", "admin-password", "artifacts", "authentication.ini", "lock", "mlflow.db", "secret-key",
        "server.log",
    ]  # fmt: skip
    assert list((server.data / "artifacts").iterdir()) == []


def test_the_intended_uses_of_an_account_still_work(
    server: Any, reader: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "front.html").write_text("the front")
    for name, location in (("no place", None), ("a place", "mlflow-artifacts:/mine")):
        experiment = reader.create_experiment(name, artifact_location=location)
        run = reader.create_run(experiment).info
        assert run.artifact_uri == f"{location or f'mlflow-artifacts:/{experiment}'}/{run.run_id}/artifacts"
        if location is None:  # where a place was given, MLflow asks for a grant to write there
            reader.log_artifact(run.run_id, str(tmp_path / "front.html"))
            found = reader.download_artifacts(run.run_id, "front.html", str(tmp_path))
            assert Path(found).read_text() == "the front"
            model = reader.create_logged_model(experiment, name="model")
            reader.create_registered_model("works")
            made = reader.create_model_version("works", f"models:/{model.model_id}", model_id=model.model_id)
            assert made.version in (1, "1")
    (kept,) = server.data.glob("artifacts/*/*/artifacts/front.html")
    assert kept.read_text() == "the front"


def test_a_place_that_is_in_the_database_already_is_not_opened(server: Any, tmp_path: Path) -> None:
    """As an account could leave it in a server of an earlier release."""
    place = tmp_path / "planted"
    place.mkdir()
    store = MlflowClient(f"sqlite:///{server.data / 'mlflow.db'}")
    run = store.create_run(store.create_experiment("planted", place.as_uri())).info
    (tmp_path / "planted" / run.run_id / "artifacts").mkdir(parents=True)
    (tmp_path / "planted" / run.run_id / "artifacts" / "secret").write_text("a secret")
    for method, path in (
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=x"),
        ("GET", f"/get-artifact?run_uuid={run.run_id}&path=secret"),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run.run_id}"),
    ):
        status, text = server.ask(path, method, "x" if method == "POST" else None, user=server.admin)
        assert (status, "outside the server's artifacts" in text) == (400, True), text
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["secret"]
