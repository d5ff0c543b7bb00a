"""Read what `torch.save` wrote, tensors and plain values only; nothing in it is run."""

import io
import os
import pickle
import pickletools
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from arsvd.files.endings import SAFETENSORS

_MOST_DESCRIPTION = 8_000_000  # bytes of the pickle that names the tensors; a few hundred a tensor are usual
_DEEPEST = 50  # tuples within tuples; a tensor's own description has two
_PICKLES = 5  # in a file of the old form, before the numbers
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def pickled_content(path: str | os.PathLike[str], zipped: bool) -> Any:
    """Read what `torch.save` wrote, by `torch.load(weights_only=True)`.

    Args:
        path: file to read.
        zipped: True if it is an archive; files from before torch 1.6 are not.

    Raises:
        ValueError: the file is damaged, holds more than tensors and plain values, or its parts are larger
            than the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what follows is tensors, or a refusal with its own message
            if zipped:
                _check_archive(path)
                with _named_as_torch_expects(path) as name:
                    # mapped, a tensor cannot reach beyond the file
                    return torch.load(name, weights_only=True, map_location="cpu", mmap=True)
            content = io.BytesIO(Path(path).read_bytes())  # torch would try a named file as a tar archive too
            _check_depth(content)
            content.seek(0)
            return torch.load(content, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} needs pickle: it holds more than tensors, such as a whole module, and a pickle can run "
            f"any code when it is read. Nothing of it was unpickled. Save the weights alone, "
            f"torch.save(model.state_dict(), …), and give the factory that makes the model; or export it, "
            f"torch.export.save(torch.export.export(…), 'model.pt2')"
        ) from error
    except Exception as error:  # on a damaged file torch raises whatever its readers of the parts raise
        raise ValueError(f"{path} is not a whole file of torch.save: {error}") from error


@contextmanager
def _named_as_torch_expects(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a file name under which torch.load looks at the content, not one with `.safetensors`."""
    if not os.fspath(path).endswith(SAFETENSORS):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory(prefix="arsvd-") as folder:
        link = Path(folder) / "weights.pt"
        link.symlink_to(Path(path).absolute())
        yield str(link)


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse an archive that unpacks to more than its size, as seen by the reader that torch uses."""
    size = Path(path).stat().st_size
    reader = torch._C.PyTorchFileReader(os.fspath(path))
    if hasattr(reader, "get_record_size"):
        sizes = {name: reader.get_record_size(name) for name in reader.get_all_records()}
    else:  # older torch: as zipfile sees it
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.partition("/")[2]: info.file_size for info in archive.infolist()}
    if sum(sizes.values()) > size:
        raise ValueError("its parts are packed, which torch.save never does")
    if sizes.get("data.pkl", 0) > _MOST_DESCRIPTION:
        raise ValueError("its list of tensors is larger than that of any model")
    _check_depth(io.BytesIO(reader.get_record("data.pkl")))


def _check_depth(content: BinaryIO) -> None:
    """Refuse tuples nested so deeply that Python's own hash of them ends the process.

    Content that is not a pickle is left to torch, which fails at the same place.

    Args:
        content: stream of up to five pickles, one after the other.

    Raises:
        ValueError: tuples are nested too deeply.
    """
    for _ in range(_PICKLES):
        try:
            deepest = _deepest_tuple(content)
        except (ValueError, IndexError, KeyError):
            return
        if deepest > _DEEPEST:
            raise ValueError(f"its values are nested more than {_DEEPEST} deep")


def _deepest_tuple(content: BinaryIO) -> int:
    """Run one pickle with the depths of tuples in place of values, and return the largest."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[Any, int] = {}
    deepest = 0
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE" or name in _TUPLES:
            start = marks.pop() if name == "TUPLE" else len(stack) - _TUPLES[name]
            depth = 1 + max(stack[start:], default=0)
            stack[start:] = [depth]
            deepest = max(deepest, depth)
            if depth > _DEEPEST:
                return depth
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        else:
            before = opcode.stack_before
            if pickletools.markobject in before:
                del stack[marks.pop() :]
                before = before[: before.index(pickletools.markobject)]
            del stack[len(stack) - len(before) :]
            stack.extend(0 for _ in opcode.stack_after)
    return deepest
