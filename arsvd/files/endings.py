"""File names to write: the ending chooses the form, and unwritable names are refused before any work."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

SAFETENSORS, EXPORTED = ".safetensors", ".pt2"
MODEL_ENDINGS = (SAFETENSORS, EXPORTED)


def ending(path: str | os.PathLike[str]) -> str:
    """Return the ending of a file's name in lower case, such as ".pt2"; "" where there is none."""
    return Path(path).suffix.lower()


def check_output(
    path: str | os.PathLike[str],
    endings: Sequence[str] = MODEL_ENDINGS,
    inputs: Iterable[str | os.PathLike[str] | None] = (),
) -> None:
    """Refuse a file name under which a model cannot be written.

    Args:
        path: file to write; an existing one is replaced.
        endings: endings that can be written, in lower case.
        inputs: files that the model is made from and that must not be overwritten; None stands for no file.

    Raises:
        ValueError: the folder does not exist or is not writable, the name is that of a folder or of an input,
            or the ending is not one of `endings`.
    """
    target = Path(path)
    folder = target.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"the folder of {path} does not exist")
    if target.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file to write")
    if ending(path) not in endings:
        raise ValueError(f"a model is written as {' or '.join(endings)}, not as {target.name!r}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"no file can be written to the folder of {path}")
    for source in inputs:
        if source is not None and target.exists() and target.samefile(source):
            raise ValueError(
                f"{path} is read as well, and would be overwritten; give the output another name"
            )


def load_line(path: str | os.PathLike[str], into: bool = False) -> str:
    """Return the line of Python that loads a written model.

    Args:
        path: file of the model.
        into: True if the file alone does not say how the model is built.
    """
    if ending(path) == EXPORTED:
        return f'torch.export.load("{path}").module()'
    return f'arsvd.load("{path}"{", into=<the dense model>" if into else ""})'
