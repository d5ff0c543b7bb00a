"""MLflow's web application, restricted to its own files, that runs and calls nothing for its clients.

MLflow serves an assistant that starts coding agents and a shell for any client on the same machine: where
several users share it, each could act as the one who runs the server. It also serves a gateway, web hooks and
jobs, by which a client makes the server send requests to any address, or evaluate what the client wrote.
Nothing here needs them, and most have no switch, so their routes are closed here. Locations of files are
checked in `mlflow_server.locations`.
"""

import os
import re
from collections.abc import Sequence

from mlflow_server.pages import Application, Receive, Scope, Send, with_choices

# Each by the beginning of its routes, after /api/2.0, /ajax-api/3.0 and so on.
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
    # they concern buckets that an experiment would name, which this server allows no experiment to do
    "mlflow/artifacts/presigned": "addresses of buckets are",
}
_API = re.compile(rf"/(?:ajax-)?api/[0-9.]+/({'|'.join(map(re.escape, _SHUT))})")
_GATEWAY = "/gateway/"
# A page of runs asks for the gateway's endpoints, and shows an error in red where there is no answer. As
# MLflow does without a gateway, this server answers that there are no endpoints.
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
    """Refuse requests from pages of other origins with status 403, and pass the rest to an application.

    MLflow itself accepts every page of this machine, whatever its port: a notebook or a game on localhost
    would act with the login that the browser keeps for this server.

    Args:
        application: application that answers the rest.
        origins: scheme, host and port of the server's own pages. Requests that come from no page name no
            origin.
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
    """Answer requests for closed services with status 404, and pass the others to an application.

    Of the gateway there is only its list of endpoints, which is empty.
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
    """Return the closed service that a path belongs to, with its verb; None where the path is open.

    Args:
        path: path of a request, decoded.
    """
    # with any prefix in front, and with repeated slashes
    path = "/".join(["", *(part for part in path.split("/") if part), ""])
    if found := _API.search(path):
        return _SHUT[found[1]]
    return _SHUT["mlflow/gateway"] if path.startswith(_GATEWAY) else None
