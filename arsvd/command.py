"""The `arsvd` command's start: do the packages that are about to be imported belong to this project?

Other projects have packages called `sweeps` and `cluster`, and people have folders of these names beside
their scripts. This package's name is unique, so the command starts here.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

COMPANIONS = ("sweeps", "cluster", "mlflow_server")
# Errors of the machine, wherever they occur: space, permissions, broken disks, too many open files.
_OF_THE_SYSTEM = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENFILE")
)
_HOME = Path(__file__).parents[1]
_MARK = "arsvd"  # found in the first file of this project's `sweeps`, and in no other's


def main() -> None:
    """Run the command, or say in one sentence why it cannot be run."""
    fault = misplaced()
    if fault is not None:
        _end(fault)
    from sweeps.cli import main as command

    try:
        command(prog_name="arsvd")
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise  # a fault of this software: the traceback is what helps
        where = f" {error.filename}" if error.filename else ""
        _end(f"cannot read or write{where}: {error.strerror}")


def _end(fault: str) -> NoReturn:
    """Say what is wrong in one line, and end, even where earlier output can no longer be written."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"arsvd: {fault}\n")
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it exits
    sys.exit(1)


def misplaced(names: Sequence[str] = COMPANIONS) -> str | None:
    """Say what would be imported in place of a package of this project, and how to fix it.

    Args:
        names: names of the packages to look for.

    Returns:
        One or two sentences; None where everything is in its place.
    """
    return next((fault for name in names if (fault := _misplaced(name)) is not None), None)


def _misplaced(name: str) -> str | None:
    own = _HOME / name
    spec = find_spec(name)
    found = None if spec is None else _place(spec)
    if found is None:
        return f"its package {name!r} is missing from {_HOME}: install arsvd again"
    if found.resolve() != own.resolve():
        file = found / "__init__.py" if (found / "__init__.py").is_file() else found
        return (
            f"the name {name!r} leads to {file}{_origin(name)}, and not to arsvd's own package in {_HOME}: "
            f"{_remedy(found)}"
        )
    if name == "sweeps" and not _is_marked(own / "__init__.py"):
        return (
            f"{own / '__init__.py'} is no longer what arsvd installed: another distribution{_origin(name)} "
            "came over it. Install arsvd into an environment of its own, or uninstall the other one and "
            "install arsvd again"
        )
    return None


def _place(spec: ModuleSpec) -> Path | None:
    """Return the folder of a package, or the file of a module."""
    folders = list(spec.submodule_search_locations or ())
    if folders:
        return Path(folders[0])
    return None if spec.origin is None else Path(spec.origin)


def _is_marked(file: Path) -> bool:
    try:
        return _MARK in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _origin(name: str) -> str:
    """Name the distributions, other than this one, that a package came with."""
    import importlib.metadata

    owners = importlib.metadata.packages_distributions().get(name, [])
    others = sorted({owner for owner in owners if owner != "arsvd"})
    return f" (of {' and '.join(others)})" if others else ""


def _remedy(found: Path) -> str:
    if {"site-packages", "dist-packages"} & set(found.parts):
        return "install arsvd into an environment of its own, or uninstall what brought the other one"
    return f"rename {found}, or start from another folder and take {found.parent} out of PYTHONPATH"
