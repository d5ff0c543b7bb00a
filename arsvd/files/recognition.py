"""Tell by its first bytes what a file of weights is: endings such as `.bin` and `.ckpt` say little."""

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from arsvd.files.endings import EXPORTED, SAFETENSORS, ending

TORCH = ".pt"
_HEAD = 512
_MOST_HEADER = 10_000_000  # bytes; a hundred thousand tensors need fewer
_LENGTH_BYTES = 8
_NO_LENGTH = 1 << 48  # eight letters, read as a number, are larger than this
_KERAS = "a model of Keras, which is not read: load it there and save its weights as .safetensors"
_PACKED = "packed: unpack it first"


@dataclass(frozen=True)
class FileKind:
    """What a file is, and how to read it.

    Attributes:
        reader: usual ending of such files, `.safetensors`, `.pt2` or `.pt`; None where this library does not
            read them.
        words: description of the file, and advice where it is not read; continues "the file is …".
        zipped: True if it is a zip archive.
    """

    reader: str | None
    words: str
    zipped: bool = False


# first bytes, and what follows "the file is"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", f"HDF5, as {_KERAS.removeprefix('a model of ')}"),
    (b"GGUF", "a model in GGUF for llama.cpp, which is not read: give the weights it was made from"),
    (b"\x93NUMPY", "an array of numpy (.npy) and no model"),
    (b"\x1f\x8b", f"gzip, {_PACKED}"),
    (b"BZh", f"bzip2, {_PACKED}"),
    (b"\xfd7zXZ\x00", f"xz, {_PACKED}"),
    (b"\x28\xb5\x2f\xfd", f"zstd, {_PACKED}"),
    (b"7z\xbc\xaf\x27\x1c", f"7z, {_PACKED}"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS and not the file that it stands for: fetch that with `git lfs pull`",
    ),
    (b"\x7fELF", "compiled code and no model; export the model with torch.export instead"),
)
# places within a file, and the bytes there
_DEEPER = (
    (4, b"TFL3", "a model of TensorFlow Lite, which is not read: give the weights it was made from"),
    (257, b"ustar", f"a tar archive, {_PACKED}; weights as torch saved them before 2017 are not read"),
)
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]")  # ir_version, then a field of a model
_PICKLE = re.compile(rb"\x80[\x01-\x05]")
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|\?xml|error)", re.IGNORECASE)
_JSON = re.compile(rb"\s*[{\[]")


def recognise(path: str | os.PathLike[str]) -> FileKind | None:
    """Say by its content what a file is; None where the content does not tell.

    Args:
        path: existing file; for an archive its list of parts is read, for others a few bytes.

    Raises:
        ValueError: the file begins like an archive or a safetensors file and cannot be one.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _archive(path)
    if _is_safetensors(path, head):
        return FileKind(SAFETENSORS, "safetensors")
    if _PICKLE.match(head):
        return FileKind(TORCH, "a file of torch.save, or another pickle")
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return FileKind(None, words)
    for place, magic, words in _DEEPER:
        if head[place:].startswith(magic):
            return FileKind(None, words)
    if _ONNX.match(head) or ending(path) == ".onnx":
        return FileKind(
            None, "a model in ONNX, which is not read: give the .pt2 or the weights it was made from"
        )
    if _PAGE.match(head):
        return FileKind(None, "a web page, as a server sends it in place of a file: download the file again")
    if _JSON.match(head):
        return FileKind(None, "JSON text, such as a configuration or a server's error, and holds no weights")
    return None


def _is_safetensors(path: str | os.PathLike[str], head: bytes) -> bool:
    if len(head) <= _LENGTH_BYTES or head[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        return False
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if length >= _NO_LENGTH:
        return False
    size = Path(path).stat().st_size
    if length > size - _LENGTH_BYTES:
        raise ValueError(
            f"{path} is not a whole safetensors file: it says that its header has {length:,} bytes, "
            f"the file has {size:,}"
        )
    if length > _MOST_HEADER:
        raise ValueError(
            f"{path} is not read: its safetensors header has {length:,} bytes, more than any model needs"
        )
    return True


def _archive(path: str | os.PathLike[str]) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except Exception as error:  # zipfile raises many kinds for what is no archive
        raise ValueError(f"{path} is not a whole file: it begins as an archive, but {error}") from error
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        words = (
            "a TorchScript program, whose code is not read: save the weights alone, "
            "torch.save(model.state_dict(), …), or export the model with torch.export"
        )
    elif "data.pkl" in names:
        return FileKind(TORCH, "a file of torch.save", zipped=True)
    elif "archive_version" in names or any("serialized_exported_program" in name for name in names):
        return FileKind(EXPORTED, "a program of torch.export", zipped=True)
    elif any(name.endswith(".weights.h5") for name in names):
        words = _KERAS
    elif any(name.endswith(".npy") for name in names):
        words = "an archive of numpy arrays (.npz) and no model"
    else:
        words = "a zip archive in which no model lies: unpack it, and give the file inside"
    return FileKind(None, words, zipped=True)
