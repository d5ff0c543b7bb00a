"""The origin of a sweep: the code's commit and the versions of the software that ran it."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("arsvd", "torch", "ray", "optuna", "mlflow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that influence a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def provenance_tags() -> dict[str, str]:
    """Return run tags with the versions, and with the commit where the current directory is a git checkout.

    `arsvd.git_changed` says whether tracked files differ from that commit.
    """
    tags = {f"version.{package}": number for package, number in versions().items()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        changed = _git("status", "--porcelain", "--untracked-files=no")
        tags["arsvd.git_changed"] = "true" if changed else "false"
    return tags


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False, encoding="utf-8"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
