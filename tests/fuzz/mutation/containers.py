"""Changes inside containers: parts of zip archives, headers of safetensors and .npy files."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from random import Random

from tests.fuzz.mutation.json_text import mutate_json, mutate_value
from tests.fuzz.mutation.raw import mutate_bytes

_LENGTH = 8
_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I8",
    "U8",
    "U64",
    "BOOL",
    "C64",
    "F4",
    "",
)
_SHAPES = ([], [0], [1], [-1], [2**40], [2**32, 2**32], [2**63], [1] * 70, [1.5], "x", None)
_DESCRIPTIONS = (
    "'<f8'",
    "'>f4'",
    "'<f2'",
    "'|b1'",
    "'|O'",
    "'<c16'",
    "'<U8'",
    "'|V16'",
    "'<M8[s]'",
    "'|S0'",
    "[('a', '<f4')]",
    "__import__('os').system('id')",
    "(" * 300,
    "'<f4', 'x': " + "9" * 5000,
)
_ARRAY_SHAPES = (
    "()",
    "(0,)",
    "(-1, 4)",
    "(99999999999, 4)",
    "(2, 0)",
    "(1.0,)",
    "(True,)",
    "(" + "1, " * 70 + ")",
)
_NAMES = ("../outside", "/tmp/outside", "a\\b", "", "con", "data.pkl", "byteorder", "x" * 300, "é", "a\0b")


def mutate_zip(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a part's content or name, add parts, or change the archive's own bytes."""
    kind = random.random()
    if kind < 0.25:
        return mutate_bytes(random, data, others)
    if kind < 0.3 and others:
        return data + random.choice(others)  # two central directories
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    except Exception:  # an input that was mutated before
        return mutate_bytes(random, data, others)
    if not parts:
        return mutate_bytes(random, data, others)
    place = random.randrange(len(parts))
    name, content, method = parts[place]
    kind = random.random()
    if kind < 0.6:
        inner = (
            mutate_json if name.endswith(".json") else mutate_npy if name.endswith(".npy") else mutate_bytes
        )
        parts[place] = (name, inner(random, content, [part[1] for part in parts]), method)
    elif kind < 0.7:
        del parts[place]
    elif kind < 0.8:
        folder = name.rpartition("/")[0]
        other = random.choice((name, name.upper(), name.lower(), f"{folder}/{random.choice(_NAMES)}"))
        parts.append((other, content, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))
    elif kind < 0.9:
        parts[place] = (random.choice((*_NAMES, f"x/{name}", name.upper())), content, method)
    else:
        parts[place] = (name, bytes(random.choice((10**4, 10**6, 2 * 10**7))), zipfile.ZIP_DEFLATED)
    return _zipped(parts)


def _zipped(parts: Sequence[tuple[str, bytes, int]]) -> bytes:
    import warnings

    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w") as archive:
        warnings.simplefilter("ignore")  # two parts of one name, on purpose
        for name, content, method in parts:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, content)
    return packed.getvalue()


def mutate_safetensors(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change the header: a tensor's type, shape or place, the JSON kept as text, or the length."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    length = int.from_bytes(data[:_LENGTH], "little")
    try:
        header = json.loads(data[_LENGTH : _LENGTH + length])
        tensors = [name for name in header if name != "__metadata__"]
        metadata = header.get("__metadata__") or {}
        names = [name for name, value in metadata.items() if isinstance(value, str)]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return mutate_bytes(random, data, others)
    body = data[_LENGTH + length :]
    kind = random.random()
    if kind < 0.5 and names:
        name = random.choice(names)
        inner = mutate_json(random, metadata[name].encode(), ())
        metadata[name] = inner.decode("utf-8", errors="replace")
    elif kind < 0.75 and tensors:
        entry = header[random.choice(tensors)]
        if isinstance(entry, dict):
            change = random.choice(("dtype", "shape", "data_offsets"))
            values = {
                "dtype": _DTYPES,
                "shape": _SHAPES,
                "data_offsets": ([0, 0], [4, 0], [0, 2**62], [-1, 4]),
            }
            entry[change] = random.choice(values[change])
    elif kind < 0.85 and tensors:
        name = random.choice(tensors)
        header[random.choice((*_NAMES, name + "x", name.upper()))] = header.pop(name)
    else:
        header = mutate_value(random, header)
    text = json.dumps(header).encode()
    if random.random() < 0.1:
        text = mutate_json(random, text, ())
    stated = len(text) if random.random() < 0.95 else random.choice((0, 1, 2**32, 2**63, len(text) + 1))
    return stated.to_bytes(_LENGTH, "little") + text + body


def mutate_npy(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change the description of an .npy file: its type, order or shape."""
    if random.random() < 0.3 or not data.startswith(b"\x93NUMPY"):
        return mutate_bytes(random, data, others)
    length = struct.unpack_from("<H", data, 8)[0] if len(data) > 10 else 0
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    if random.random() < 0.5:
        header = re.sub(r"'descr': [^,]*", lambda _: f"'descr': {random.choice(_DESCRIPTIONS)}", header)
    else:
        header = re.sub(r"'shape': \([^)]*\)", lambda _: f"'shape': {random.choice(_ARRAY_SHAPES)}", header)
    if random.random() < 0.2:
        header = header.replace("False", random.choice(("True", "2", "None", "x")))
    text = header.encode("latin-1")
    return data[:8] + struct.pack("<H", len(text) & 0xFFFF) + text + body
