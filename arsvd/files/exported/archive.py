"""Read a `.pt2` file of unknown origin into an archive that torch may read.

torch never sees a file from somebody else as an archive: two readers of one archive may disagree about its
parts (names that differ in case, two central directories, headers that contradict each other), and then what
was checked is not what is read. The file is read once, its parts are checked, and those that torch needs are
written into a new archive.
"""

import io
import json
import os
import pickletools
import re
import stat
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from arsvd.files.exported.program import clean_program, count_objects, path_name
from arsvd.files.exported.refusal import RefusedError

MOST_BYTES = 4 << 30
MOST_PARTS = 50_000
MOST_OBJECTS = 100_000  # in JSON; a program of 800 operations has 20,000
# torch writes parts uncompressed; a file that somebody compressed may grow by this factor
_GROWTH, _SLACK = 4, 64 << 20
_MOST_JSON = 32 << 20
_MOST_PICKLE = 64 << 10
_EXPANDED = 1 << 20  # elements of a tensor with strides of 0
_MOST_DIMENSIONS = 64

_ENTRY = b"PK\x01\x02"  # of a central directory
_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": ("data/weights/", re.compile(r"weight_\d{1,6}")),
    "data/constants/model_constants_config.json": ("data/constants/", re.compile(r"tensor_\d{1,6}")),
}
_KNOWN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment"
    r"|\.data/(?:version|serialization_id)|extra/.+|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(?:weight_\d{1,6}|model_weights_config\.json)"
    r"|data/constants/(?:(?:tensor|custom_obj|opaque_obj)_\d{1,6}|model_constants_config\.json)"
)
_OLD = re.compile(r"serialized_\w+\.(?:json|pt)|data/(?:weights|constants)/[^/]+\.pt")
# what the pickle of a tensor names; nothing is unpickled, this only makes for a clear refusal
_TENSOR_GLOBALS = re.compile(r"torch\._utils _rebuild_\w+|torch(?:\.storage)? \w+|collections OrderedDict")
# what zipfile raises for bytes that are no archive, and what unexpected JSON leads to
_FAULTS: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError),
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
)


def checked_archive(path: str | os.PathLike[str]) -> io.BytesIO:
    """Read a file and write the checked parts of it into a new archive.

    Weights and constants that are tensor subclasses, custom objects and sample inputs that are not plain
    tensors are pickles; an AOTInductor package is a compiled library. Such files are refused. Sample inputs
    are left out.

    Args:
        path: file of at most 4 GiB. Memory for about 2.5 times its size is taken.

    Returns:
        An archive for `torch.export.load`.

    Raises:
        ValueError: the file is not a whole archive, is too large, or holds what torch.export does not write.
    """
    try:
        return _rewritten(_bytes(path))
    except RefusedError as error:
        raise ValueError(f"{path} {error}") from error
    except _FAULTS as error:
        raise ValueError(f"{path} is not a whole .pt2 file: {error!r}"[:500]) from error


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, MOST_BYTES) + 1)  # this much memory is taken at once
    if len(content) > MOST_BYTES:
        raise RefusedError(f"is larger than {MOST_BYTES >> 30} GiB, and files of up to that size are read")
    return content


def _rewritten(content: bytes) -> io.BytesIO:
    archive = _Archive(content)
    for name in archive.names():
        _check_name(name, archive.has(_PROGRAM))
    if archive.has("byteorder") and archive.read("byteorder") != sys.byteorder.encode():
        raise RefusedError("was written on a machine of another byte order")
    if archive.has(_SAMPLES):
        _check_samples(archive.read(_SAMPLES))
    texts = {_PROGRAM: json.dumps(clean_program(archive.json(_PROGRAM)))}
    parts: set[str] = set()
    for name, (folder, pattern) in _CONFIGS.items():
        config = archive.json(name)
        parts |= {folder + part for part in _check_tensors(config, archive, folder, pattern)}
        texts[name] = json.dumps(config)
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, text in texts.items():
            writer.write_string(name, text)
        for name in sorted(parts):
            writer.write_bytes(name, archive.read(name))
        writer.write_bytes(_SAMPLES, b"")
    buffer.seek(0)
    wanted = {*texts, *parts, _SAMPLES}
    found = {
        name for name in PT2ArchiveReader(buffer).get_file_names() if name.startswith(("models/", "data/"))
    }
    if found != wanted:
        raise RefusedError(f"has parts {sorted(found ^ wanted)[:5]} that torch reads under other names")
    buffer.seek(0)
    return buffer


class _Archive:
    """The parts of a zip archive below its one root folder; sizes are checked before anything is unpacked."""

    def __init__(self, content: bytes) -> None:
        if content.count(_ENTRY) > MOST_PARTS:
            raise RefusedError(f"has more than {MOST_PARTS:,} parts")
        self._zip = zipfile.ZipFile(io.BytesIO(content))
        self._parts: dict[str, zipfile.ZipInfo] = {}
        roots, folded = set(), set()
        for info in self._zip.infolist():
            root, _, name = info.filename.partition("/")
            _check_entry(info, name)
            roots.add(root)
            folded.add(name.casefold())
            self._parts[name] = info
        if len(folded) < len(self._zip.infolist()):
            raise RefusedError("holds two parts of one name; it was not written by torch.export")
        if len(roots) != 1:
            raise RefusedError("is not a whole .pt2 file: its parts do not lie in one folder")
        unpacked = sum(info.file_size for info in self._parts.values())
        if unpacked > _GROWTH * len(content) + _SLACK:
            raise RefusedError(
                f"holds {unpacked:,} bytes in a file of {len(content):,}; torch.export does not compress"
            )

    def names(self) -> list[str]:
        return list(self._parts)

    def has(self, name: str) -> bool:
        return name in self._parts

    def size(self, name: str) -> int:
        return self._parts[name].file_size

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        info = self._parts[name]
        if info.file_size > most:
            raise RefusedError(f"has a part {name} of {info.file_size:,} bytes; up to {most:,} are read")
        with self._zip.open(info) as part:
            content = part.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise RefusedError(f"is not a whole .pt2 file: {name} is not as long as it says")
        return content

    def json(self, name: str) -> Any:
        if name not in self._parts:
            raise RefusedError(f"is not a whole .pt2 file: it has no {name}")
        try:
            content = json.loads(self.read(name, _MOST_JSON))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError(f"is not a whole .pt2 file: {name} is not JSON") from error
        if (objects := count_objects(content)) > MOST_OBJECTS:
            raise RefusedError(f"has {objects:,} objects in {name}; up to {MOST_OBJECTS:,} are read")
        return content


def _check_entry(info: zipfile.ZipInfo, name: str) -> None:
    if "aotinductor" in info.filename:
        raise RefusedError(f"holds compiled code ({name}); export the model with torch.export instead")
    plain = info.filename == info.orig_filename and all(
        part not in ("", ".", "..") and part.isprintable() and not set(part) & {"\\", ":"}
        for part in info.filename.split("/")
    )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not plain or not name or kind not in (0, stat.S_IFREG):
        raise RefusedError(
            f"has a part {info.filename[:100]!r} that is no plain file; torch.export does not write such"
        )
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError(f"has a part {name[:100]!r} that is encrypted, or packed in an unknown way")


def _check_name(name: str, is_program: bool) -> None:
    if _OLD.fullmatch(name):
        raise RefusedError(
            "has the form of torch 2.8 and earlier, whose weights are pickles: if you trust it, write it "
            "anew, torch.export.save(torch.export.load('old.pt2'), 'new.pt2')"
        )
    if not is_program:
        raise RefusedError(f"is not a whole .pt2 file: it has no {_PROGRAM}")
    if not _KNOWN.fullmatch(name):
        raise RefusedError(f"holds a part {name[:100]!r}, which torch.export.save does not write")


def _check_samples(content: bytes) -> None:
    """Refuse example inputs that are more than tensors. They are never unpickled, nor passed to torch."""
    if not content:
        return
    try:
        named = {
            str(argument)
            for operation, argument, _ in pickletools.genops(_Archive(content).read("data.pkl", _MOST_PICKLE))
            if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
        }
    except _FAULTS as error:
        raise _needs_pickle(_SAMPLES) from error
    if not all(map(_TENSOR_GLOBALS.fullmatch, named)):
        raise _needs_pickle(_SAMPLES)


def _check_tensors(config: Any, archive: _Archive, folder: str, pattern: re.Pattern[str]) -> set[str]:
    """Check what a configuration says about tensors; returns the parts that hold their numbers."""
    parts = set()
    for path, entry in config["config"].items():
        name = str(entry["path_name"])
        if entry["use_pickle"] or not pattern.fullmatch(name):
            raise _needs_pickle(folder + name[:100])
        meta = entry["tensor_meta"]
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        numbers = [*sizes, *strides, meta["storage_offset"]["as_int"]]
        if len(sizes) > _MOST_DIMENSIONS or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
            raise RefusedError(f"holds a tensor {path_name(path)!r} of shape {str(sizes)[:100]}")
        elements, size = _product(sizes), archive.size(folder + name)
        if elements > (max(size, _EXPANDED) if size else 0):
            raise RefusedError(f"holds {size:,} bytes for the {elements:,} numbers of {path_name(path)!r}")
        _check_plain(meta)
        parts.add(name)
    return parts


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _check_plain(meta: dict[str, Any]) -> None:
    values = [meta["dtype"], meta["layout"], meta["requires_grad"], meta["device"]["index"]]
    if any(value is not None and not isinstance(value, int) for value in values) or not re.fullmatch(
        r"[a-z]{1,20}", meta["device"]["type"]
    ):
        raise RefusedError("describes a tensor in a way that torch.export does not write")


def _needs_pickle(name: str) -> RefusedError:
    return RefusedError(
        f"needs pickle for {name}, and a pickle can run any code when it is read: nothing of the file "
        f"was unpickled. Export a model whose weights and example inputs are plain tensors"
    )
