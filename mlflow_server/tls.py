"""The files of a certificate: whether they can be served, before anything starts."""

import ssl
from pathlib import Path

from mlflow_server.errors import SettingError


def check_certificate(certificate: Path, key: Path) -> None:
    """Open a certificate and its key as the server will.

    Args:
        certificate: the certificate with those that vouch for it, as PEM.
        key: its key, as PEM and without a password.

    Raises:
        SettingError: a file is missing or cannot be read, or the two are no certificate and its key.
    """
    for path in (certificate, key):
        if not path.is_file():
            raise SettingError(f"the TLS file {path} does not exist, or is no file")
    try:
        # the callback is asked where the key has a password, and OpenSSL would ask the terminal without it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise SettingError(_explained(certificate, key, error)) from None
    except OSError as error:
        raise SettingError(
            f"the TLS files {certificate} and {key} cannot be read ({error.strerror})"
        ) from None


def _explained(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} is not that of the certificate {certificate}"
    if "ENCRYPTED" in key.read_text(errors="replace"):
        return f"the key {key} has a password, which a server cannot be asked for: store it without one"
    return f"{certificate} and {key} are no certificate and key in PEM ({error.reason or 'not readable'})"
