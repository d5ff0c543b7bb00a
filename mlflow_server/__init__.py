"""The MLflow tracking server: one process on this machine, alone or shared with authentication."""

from mlflow_server.errors import ServerError, SettingError
from mlflow_server.process import Server, ends_on_signals
from mlflow_server.serving import serve
from mlflow_server.settings import ServerSettings

__all__ = ["Server", "ServerError", "ServerSettings", "SettingError", "ends_on_signals", "serve"]
