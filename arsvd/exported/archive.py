"""Look into a `.pt2` archive before torch reads it: parts of it may be pickles, or compiled code."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

# Sizes such as "Symbol('s77', integer=True)". torch hands them to sympy, which evaluates them
# as Python: only names that sympy's classes may have, the symbols' own names, and numbers get there.
_EXPRESSION = re.compile(
    r"(?:Symbol\('[a-z]+\d*'|[a-z]+=(?:True|False)|[a-z]{1,5}\d+|[A-Z][A-Za-z]*|oo|\d+(?:\.\d+)?"
    r"|[-+*/%(),<>=!~&| ])*"
)
_PICKLED_OBJECTS = ("custom_obj_", "opaque_obj_")


def check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse a `.pt2` file that `torch.export.load` would unpickle or run in part.

    Weights and constants that are tensor subclasses, custom objects and sample inputs that are not plain
    tensors are pickles; a package of AOTInductor is a compiled library. Reading such a file runs code.

    Args:
        path: the file.

    Raises:
        ValueError: the file is no archive, or holds such a part.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise ValueError(f"{path} holds two parts of one name; it was not written by torch.export")
            for name in names:
                _check_part(path, name, archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .pt2 file: {error}") from error


def _check_part(path: str | os.PathLike[str], name: str, archive: zipfile.ZipFile) -> None:
    if "aotinductor" in name:
        raise ValueError(f"{path} holds compiled code ({name}); export the model with torch.export instead")
    if name.endswith(".pt"):
        try:
            data = archive.read(name)
            if data:
                torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:  # what torch raises here differs from release to release
            raise _needs_pickle(path, name) from error
    if name.endswith(".json"):
        try:
            content = json.loads(archive.read(name))
        except ValueError as error:
            raise ValueError(f"{path} is not a whole .pt2 file: {name} is not JSON") from error
        for key, value in _entries(content):
            if (key == "use_pickle" and value) or (
                key == "path_name" and str(value).startswith(_PICKLED_OBJECTS)
            ):
                raise _needs_pickle(path, name)
            if key == "expr_str" and not _EXPRESSION.fullmatch(str(value)):
                raise ValueError(f"{path} states a size as {value!r}, which is no arithmetic; it is not read")


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of a JSON document, at any depth."""
    pending = [content]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            yield from here.items()
            pending.extend(here.values())
        elif isinstance(here, list):
            pending.extend(here)


def _needs_pickle(path: str | os.PathLike[str], name: str) -> ValueError:
    return ValueError(
        f"{path} needs pickle for {name}, and a pickle can run any code when it is read: nothing of the file "
        f"was unpickled. Export a model whose weights and example inputs are plain tensors"
    )
