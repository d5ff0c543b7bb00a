"""The command and `sweeps` beside packages of the same names: what was found is named, in one sentence.

The packages are copied as a wheel would lay them out, so that others can come before them or over them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import arsvd

SOURCE = Path(arsvd.__file__).parents[1]
COMMAND = "from arsvd.command import main; main()"
LOAD = "from sweeps import load_best"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site-packages"
    ours = [f"arsvd/{name}.py" for name in ("__init__", "__main__", "command", "lazy")]
    for name in (*ours, "sweeps/__init__.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / name, site / name)
    for name in ("sweeps/cli", "sweeps/tracking", "cluster", "mlflow_server"):
        (site / name).mkdir()
        (site / name / "__init__.py").touch()
    (site / "sweeps/cli/__init__.py").write_text("def main(prog_name): print(prog_name, 'runs')")
    (site / "sweeps/tracking/__init__.py").write_text("load_best = 'ours'")
    return site


def run(*arguments: str, first: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    # -S: what is installed beside the test must not answer for what is missing here
    command = [sys.executable, "-S", *arguments]
    environment = {"PYTHONPATH": f"{first}:{site}"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=first, check=False)


def put(folder: Path, name: str, kind: str) -> Path:
    """Make somebody else's package, and return what is to be named."""
    if kind == "file":
        (folder / f"{name}.py").touch()
        return folder / f"{name}.py"
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("import jsonref")
    return folder / name / "__init__.py"


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("name", ["sweeps", "cluster", "mlflow_server"])
@pytest.mark.parametrize("arguments", [("-c", COMMAND), ("-m", "arsvd")], ids=["script", "module"])
def test_the_command_names_what_shadows_a_package(
    tmp_path: Path, site: Path, arguments: tuple[str, str], name: str, kind: str
) -> None:
    own = tmp_path / "project"
    own.mkdir()
    found = put(own, name, kind)
    done = run(*arguments, first=own, site=site)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"arsvd: the name {name!r} leads to {found}, and not to arsvd's own package"
    )
    assert f"rename {found if kind == 'file' else found.parent}, or start from another folder" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_runs_where_nothing_shadows_its_packages(tmp_path: Path, site: Path) -> None:
    own = tmp_path / "project"
    (own / "sweeps").mkdir(parents=True)  # a folder that is no package
    for arguments in (("-c", COMMAND), ("-m", "arsvd")):
        done = run(*arguments, first=own, site=site)
        assert (done.stdout, done.stderr) == ("arsvd runs\n", "")


def test_the_advice_for_another_distributions_package_is_to_uninstall_it(tmp_path: Path, site: Path) -> None:
    other = tmp_path / "other" / "site-packages"
    found = put(other, "sweeps", "folder")
    done = run("-c", COMMAND, first=other, site=site)
    assert str(found) in done.stderr
    assert "install arsvd into an environment of its own, or uninstall what brought" in done.stderr


@pytest.mark.parametrize("content", ["import jsonref", None], ids=["overwritten", "removed"])
def test_a_package_that_was_installed_over_ours_is_reported(
    tmp_path: Path, site: Path, content: str | None
) -> None:
    (site / "sweeps/__init__.py").unlink()
    if content is not None:
        (site / "sweeps/__init__.py").write_text(content)
    done = run("-c", COMMAND, first=tmp_path, site=site)
    assert done.returncode == 1
    assert done.stderr.startswith(f"arsvd: {site / 'sweeps/__init__.py'} is no longer what arsvd installed")
    assert "uninstall the other one and install arsvd again" in done.stderr


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("name", ["arsvd", "cluster"])
def test_the_import_names_what_shadows_a_package(tmp_path: Path, site: Path, name: str, kind: str) -> None:
    own = tmp_path / "project"
    own.mkdir()
    found = put(own, name, kind)
    done = run("-c", LOAD, first=own, site=site)
    assert f"ImportError: the name {name!r} leads to {found}, and not to " in done.stderr
    assert "rename" in done.stderr.splitlines()[-1]


def test_the_import_needs_no_package_that_it_does_not_use(tmp_path: Path, site: Path) -> None:
    own = tmp_path / "project"
    put(own, "mlflow_server", "folder")
    done = run("-c", f"{LOAD}; print(load_best)", first=own, site=site)
    assert (done.stdout, done.stderr) == ("ours\n", "")
