"""The folder for temporary files: Ray's sockets have room in it, or it is refused before Ray starts."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.errors import ClusterError
from cluster.scratch import check_scratch
from sweeps.cli import main


@pytest.fixture(autouse=True)
def _as_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def socket_of_ray(folder: str) -> bytes:
    """The longest path, as Ray itself makes it."""
    session = f"session_2026-11-26_00-05-12_123456_{os.getpid()}"
    return os.fsencode(os.path.join(folder, "ray", session, "sockets", "plasma_store"))


@pytest.mark.parametrize("sign", ["x", "é"])
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_is_refused_from_the_byte_on_that_is_too_much(
    monkeypatch: pytest.MonkeyPatch, variable: str, sign: str
) -> None:
    from ray._private.utils import validate_socket_filepath

    refused = []
    for length in range(10, 60):
        folder = f"/tmp/{sign * length}"
        monkeypatch.setenv(variable, folder)
        path = socket_of_ray(folder)
        if len(path) <= 107:
            check_scratch()
            validate_socket_filepath(path.decode())
            continue
        refused.append(length)
        with pytest.raises(OSError, match="AF_UNIX path length cannot exceed 107"):
            validate_socket_filepath(path.decode())
        with pytest.raises(ClusterError, match=f"{variable} is {folder}, which is {len(path) - 107} bytes"):
            check_scratch()
    assert 20 < len(refused) < 50


def test_rays_own_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    check_scratch()
    monkeypatch.setenv("TMPDIR", "/tmp/" + 100 * "x")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_scratch()


def test_a_sweep_is_refused_before_its_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("TMPDIR", "/tmp/" + 100 * "x")
    monkeypatch.setattr("sweeps.run.preparing.load_dataset", pytest.fail)
    said = CliRunner().invoke(main, ["sweep", "digits"])
    assert (said.exit_code, said.stdout) == (2, "")
    assert "set RAY_TMPDIR to a shorter folder, such as /tmp" in said.stderr
    # after the line that says what is loaded
    assert [line[:7] for line in said.stderr.splitlines()] == ["loading", "arsvd: "]
    assert not (tmp_path / "home").exists()
