"""The files of a certificate, checked before anything starts."""

import ssl
from pathlib import Path

from mlflow_server.errors import SettingError


def check_certificate(certificate: Path, key: Path) -> None:
    """Open a certificate and its key as the server will.

    Args:
        certificate: PEM file of the certificate, with its chain.
        key: PEM file of its key, without a password.

    Raises:
        SettingError: a file is missing or cannot be read, or the two are not a certificate and its key.
    """
    for path in (certificate, key):
        if not path.is_file():
            raise SettingError(f"the TLS file {path} does not exist, or is no file")
    try:
        # the callback runs where the key has a password; without it OpenSSL would prompt on the terminal
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
