"""Certificates that are none are refused before a server starts, and nobody is asked for a password."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_server import ServerSettings, SettingError
from sweeps.cli import main


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "good.pem", folder / "good.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    openssl("req", "-x509", *curve, "-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate))  # fmt: skip  # noqa: E501
    return certificate, key


def another_key(certificate: Path, key: Path) -> None:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(key))


def locked(certificate: Path, key: Path) -> None:
    openssl("pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", f"{key}.new")
    Path(f"{key}.new").replace(key)


# name: what becomes of a good pair, what the message says
BAD: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "text": (lambda certificate, key: certificate.write_text("hello"), "are no certificate and key in PEM"),
    "bytes": (lambda certificate, key: key.write_bytes(bytes(range(256))), "are no certificate and key"),
    "empty": (lambda certificate, key: certificate.write_bytes(b""), "are no certificate and key in PEM"),
    "exchanged": (lambda certificate, key: certificate.write_bytes(key.read_bytes()), "are no certificate"),
    "another key": (another_key, "is not that of the certificate"),
    "a password": (locked, "has a password, which a server cannot be asked for"),
    "gone": (lambda certificate, key: key.unlink(), "does not exist"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_an_invalid_certificate_is_refused(
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, Path], object],
    says: str,
) -> None:
    certificate, key = (tmp_path / path.name for path in pair)
    for source, copy in zip(pair, (certificate, key), strict=True):
        copy.write_bytes(source.read_bytes())
    settings = ServerSettings(tmp_path / "data", tls=(certificate, key))
    assert settings.resolved().tls == (certificate, key)
    spoil(certificate, key)
    with pytest.raises(SettingError, match=says):
        settings.resolved()
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    said = CliRunner().invoke(
        main, ["server", "--tls-certificate", str(certificate), "--tls-key", str(key)], input="secret\n"
    )
    assert (said.exit_code, said.stdout) == (2, "")
    assert says in said.stderr
    assert not (tmp_path / "home").exists()
