"""Put together what a submitted job needs: the code of this installation and the one sweep file."""

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def pack(folder: Path, packages: Sequence[Path], name: str, files: Sequence[Path] = ()) -> None:
    """Fill a working directory that Ray ships to the cluster.

    Packages go along as they are here, so that the job runs this version, changes included. Their metadata
    goes along too: the job then knows its version.

    Args:
        folder: an empty folder.
        packages: folders of importable packages.
        name: the distribution that they belong to.
        files: single files, which keep their names.
    """
    for package in packages:
        shutil.copytree(package, folder / package.name, ignore=_LEFT_OUT)
    for file in files:
        shutil.copy(file, folder / file.name)
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return
    about = folder / f"{name}-{metadata['Version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {metadata['Name']}\nVersion: {metadata['Version']}\n"
    )


def pinned_requirements(name: str, without: frozenset[str] = frozenset({"ray"})) -> list[str]:
    """List a distribution's direct requirements at the versions that are installed here.

    Args:
        name: the distribution.
        without: names to leave out; Ray's version is the cluster's own business.

    Returns:
        Lines such as "optuna==5.0.0", for pip.
    """
    from packaging.requirements import Requirement

    lines = []
    for line in requires(name) or ():
        requirement = Requirement(line)
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if optional or requirement.name.lower() in without:
            continue
        # a local part such as +cpu names a build that only some indexes have
        lines.append(f"{requirement.name}=={version(requirement.name).partition('+')[0]}")
    return sorted(lines)
