"""MLflow's HTML page with what answers for choices that nobody has made yet."""

import asyncio
import json
import re
from collections.abc import MutableMapping
from typing import Any

import pytest

from mlflow_server.application import without_services
from mlflow_server.pages import COLUMNS, HEAD, SINGLE_METRICS, with_choices

PAGE = b"<!doctype html><html><head><title>MLflow</title></head><body></body></html>"
Message = MutableMapping[str, Any]


async def mlflow(scope: Message, receive: Any, send: Any) -> None:
    """Answers as MLflow does: in parts, packed where that is asked for, and not again what is known."""
    asked = dict(scope["headers"])
    known = asked.get(b"if-none-match") == b"v1"
    body = b"" if known else b"packed" if b"accept-encoding" in asked else PAGE
    headers = [
        (b"content-type", b"text/html"),
        (b"content-length", str(len(body)).encode()),
        (b"ETag", b"v1"),
    ]
    await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[:10], "more_body": True})
    await send({"type": "http.response.body", "body": body[10:]})


def answer(
    application: Any, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": given}
    asyncio.run(application(scope, None, send))
    start, *bodies = sent
    found = {name.lower(): value for name, value in start["headers"]}
    return start["status"], found, b"".join(message["body"] for message in bodies)


@pytest.mark.parametrize("headers", [{}, {"if_none_match": "v1"}, {"accept_encoding": "gzip"}])
def test_the_page_comes_whole_with_the_script_before_all_others(headers: dict[str, str]) -> None:
    status, found, body = answer(with_choices(mlflow), "/", **headers)
    assert (status, body) == (200, PAGE.replace(b"<head>", b"<head>" + HEAD))
    assert int(found[b"content-length"]) == len(body)
    # a browser must not take the page of another MLflow at this address for this one
    assert b"etag" not in found
    assert found[b"content-type"] == b"text/html"


def test_answers_other_than_the_page_are_unchanged() -> None:
    for path, method in (("/static-files/x.js", "GET"), ("/", "POST"), ("/api/2.0/mlflow/runs/get", "GET")):
        assert answer(with_choices(mlflow), path, method, if_none_match="v1")[0] == 304


def test_a_refusal_without_html_goes_through() -> None:
    async def refuse(scope: Message, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
        )
        await send({"type": "http.response.body", "body": b"who are you?"})

    status, found, body = answer(with_choices(refuse), "/")
    assert (status, found[b"www-authenticate"], body) == (401, b"Basic", b"who are you?")


def test_the_script_has_no_end_within_and_no_single_metric_among_the_columns() -> None:
    script = HEAD.decode().removeprefix("<script>").partition("</script>")[0]
    assert "<" not in script
    tables = [json.loads(table) for table in re.findall(r"(?:fixed|choices) = (\[\[.*?\]\])[,;]", script)]
    answers = {pattern: json.loads(value) for table in tables for pattern, value in table}
    assert answers[r"mlflow\.workflowType_v1"] == "machine_learning"
    assert answers[r"mlflow\.assistant\.panelOpen_v1"] is False
    assert len(set(SINGLE_METRICS)) == len(SINGLE_METRICS)
    assert not {f"metrics.`{name}`" for name in SINGLE_METRICS} & set(COLUMNS)


def test_the_gateway_has_no_endpoints_and_takes_nothing() -> None:
    path = "/ajax-api/2.0/mlflow/gateway-proxy"
    status, found, body = answer(without_services(mlflow), path)
    assert (status, found[b"content-type"], json.loads(body)) == (200, b"application/json", {"endpoints": []})
    assert answer(without_services(mlflow), path, "POST")[0] == 404
    assert answer(without_services(mlflow), "/api/3.0/mlflow/gateway/endpoints/list")[0] == 404
