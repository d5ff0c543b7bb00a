"""The errors that keep a server from starting."""


class ServerError(RuntimeError):
    """The server did not start or ended by itself; the message says why and holds no credentials."""


class SettingError(ValueError):
    """A setting that cannot be used; the message names it, says why, and holds no credentials."""
