"""MLflow's web application without its assistant.

MLflow serves an assistant that starts coding agents and a shell for whoever asks from the same machine. Where
several users share that machine, each could act as the one who runs the server. It has no switch, so its
routes end here.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_ASSISTANT = "/ajax-api/3.0/mlflow/assistant"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def create_application() -> Application:
    """Return the application that `mlflow server --app-name arsvd` runs.

    Authentication is on where `MLFLOW_AUTH_CONFIG_PATH` is set, as `serve` sets it.
    """
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server.auth import create_app

        return without_assistant(create_app())
    from mlflow.server.fastapi_app import app

    return without_assistant(app)


def without_assistant(application: Application) -> Application:
    """Answer requests for MLflow's assistant with status 404 and leave the others to an application."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        # with any prefix in front, and however often a slash is written
        path = "/".join(["", *(part for part in str(scope.get("path", "")).split("/") if part)])
        if scope["type"] == "http" and _ASSISTANT in path:
            await send(
                {"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]}
            )
            await send({"type": "http.response.body", "body": b"the assistant is switched off\n"})
            return
        await application(scope, receive, send)

    return answer
