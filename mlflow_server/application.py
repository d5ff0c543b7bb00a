"""MLflow's web application, which keeps to its own files and runs and calls nothing for whoever asks.

MLflow serves an assistant that starts coding agents and a shell for whoever asks from the same machine: where
several users share it, each could act as the one who runs the server. It serves a gateway, web hooks and jobs
besides, by which a caller makes the server send requests to any address, or evaluate what the caller wrote.
Nothing here needs them, and most have no switch, so their routes end here. What names a place for files is
checked in `mlflow_server.locations`.
"""

import os
import re
from collections.abc import Sequence

from mlflow_server.pages import Application, Receive, Scope, Send, with_choices

# Each by the beginning of its routes behind /api/2.0, /ajax-api/3.0 and so on.
_SHUT = {
    "mlflow/assistant": "the assistant is",
    "mlflow/gateway": "the gateway is",
    "mlflow/webhooks": "web hooks are",
    "mlflow/jobs": "jobs are",
    "jobs": "jobs are",
    "mlflow/scorer/invoke": "scorers are",
    "mlflow/scorers/online-config": "scorers are",
    "mlflow/genai/evaluate": "evaluations are",
    "mlflow/issues/invoke": "evaluations are",
    "mlflow/prompt-optimization": "prompt optimization is",
    "mlflow/demo": "demonstrations are",
    "mlflow/runs/create-promptlab-run": "the prompt laboratory is",
    # they speak of buckets that an experiment would name, which this server lets no experiment do
    "mlflow/artifacts/presigned": "addresses of buckets are",
}
_API = re.compile(rf"/(?:ajax-)?api/[0-9.]+/({'|'.join(map(re.escape, _SHUT))})")
_GATEWAY = "/gateway/"
# A page of runs asks for the gateway's endpoints, and shows an error in red where there is none. As MLflow
# itself does without a gateway, it is told that there are no endpoints.
_ENDPOINTS = re.compile(r"/ajax-api/2\.0/mlflow/gateway-proxy/?")


def create_application() -> Application:
    """Return the application that `mlflow server --app-name arsvd` runs.

    Authentication is on where `MLFLOW_AUTH_CONFIG_PATH` is set, as `serve` sets it.
    """
    from mlflow_server.locations import guard_stores

    guard_stores()
    origins = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "").split(",")
    application = with_choices(without_services(_application()))
    return of_own_pages(application, [origin.strip() for origin in origins])


def _application() -> Application:
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server.auth import create_app

        authenticated: Application = create_app()
        return authenticated
    from mlflow.server.fastapi_app import app

    plain: Application = app
    return plain


def of_own_pages(application: Application, origins: Sequence[str]) -> Application:
    """Refuse with status 403 what pages of other origins ask for, and leave the rest to an application.

    MLflow itself lets every page of this machine in, whatever its port: a notebook or a game on localhost
    would act with the login that the browser keeps for this server.

    Args:
        application: what answers.
        origins: scheme, host and port of the server's own pages. What no page asks for names no origin.
    """
    known = {origin.lower().encode() for origin in origins}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        asking = [value for name, value in scope.get("headers", ()) if name.lower() == b"origin"]
        if all(origin.lower() in known for origin in asking):
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _respond(send, 403, b"this page is not one of the server's own\n")

    return answer


def without_services(application: Application) -> Application:
    """Answer requests for what is shut with status 404 and leave the others to an application.

    Only the list of the gateway's endpoints is there, and empty.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        shut = shut_service(str(scope.get("path", ""))) if scope["type"] == "http" else None
        if shut is None:
            await application(scope, receive, send)
            return
        if scope.get("method") == "GET" and _ENDPOINTS.fullmatch(str(scope["path"])):
            await _respond(send, 200, b'{"endpoints": []}', b"application/json")
        else:
            await _respond(send, 404, f"{shut} switched off\n".encode())

    return answer


async def _respond(send: Send, status: int, body: bytes, kind: bytes = b"text/plain") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


def shut_service(path: str) -> str | None:
    """Return what a path belongs to and is shut, with its verb; None where the path is open.

    Args:
        path: the path of a request, decoded.
    """
    # with any prefix in front, and however often a slash is written
    path = "/".join(["", *(part for part in path.split("/") if part), ""])
    if found := _API.search(path):
        return _SHUT[found[1]]
    return _SHUT["mlflow/gateway"] if path.startswith(_GATEWAY) else None
