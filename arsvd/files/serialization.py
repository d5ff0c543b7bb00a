"""Save and load compressed models: one safetensors file with versioned JSON in its header, no pickle."""

import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from arsvd.calls import carry, obstacle
from arsvd.files.codes import MODEL, packed, unpacked
from arsvd.files.endings import SAFETENSORS, check_output
from arsvd.files.parts import build, describe
from arsvd.files.recognition import recognise
from arsvd.formats import DENSE, FORMATS, LOW_RANK
from arsvd.layers import replace_layer
from arsvd.modes import unwrapped
from arsvd.numbers.coded import Coded, coded_names
from arsvd.sites.finding import site_of

FORMAT_VERSION, CODED_VERSION = 1, 2  # of files without and with codes
HEADER = "arsvd"


@dataclass(frozen=True)
class ModelHeader:
    """The header of a model's file, after it was checked.

    Attributes:
        architecture: description of the model; None where only its own code can build it.
        low_rank: columns, rank and outputs of each low-rank layer, by the layer's name.
        formats: format and options of each layer in another format, by the layer's name.
        coded: description of each coded layer, by the layer's name.
        aliases: names of tensors in the file, by the other names of the same tensors.
    """

    architecture: Any
    low_rank: dict[str, tuple[int, int, int]]
    formats: dict[str, tuple[str, dict[str, Any]]]
    coded: dict[str, Any]
    aliases: dict[str, str]

    @classmethod
    def checked(
        cls, header: dict[str, Any], tensors: dict[str, Tensor], path: str | os.PathLike[str]
    ) -> "ModelHeader":
        """Check a header against the tensors of its file.

        Raises:
            ValueError: the header is not that of a model, or does not match the tensors.
        """
        if lacking := [key for key in ("architecture", "low_rank") if key not in header]:
            raise ValueError(f"{path} is not a model that arsvd.save wrote: its header has no {lacking[0]!r}")
        tables = [header.get(key, {}) for key in ("low_rank", "aliases", "formats", "coded")]
        low_rank, aliases, others, coded = tables
        if not all(isinstance(table, dict) for table in tables):
            raise ValueError(f"{path} is damaged: its header lists no layers")
        for alias, original in aliases.items():
            if not isinstance(original, str) or original not in tensors or alias in tensors:
                raise ValueError(f"{path} is damaged: its header has {alias!r} stand for {original!r:.80}")
        shapes = {}
        for name, sizes in low_rank.items():
            names = [f"{name}.{factor}" if name else factor for factor in ("right", "left")]
            right, left = (tensors.get(aliases.get(factor, factor)) for factor in names)
            if right is None or left is None or left.ndim != 2 or right.ndim < 2 or not len(right):
                found = None
            else:
                found = [right[0].numel(), left.shape[1], len(left)]
            if found is None or sizes != found:
                raise ValueError(
                    f"{path} is damaged: the low-rank layer {name!r} of its header, {sizes!r:.80}, is not "
                    f"the one of its tensors"
                )
            shapes[name] = found[0], found[1], found[2]
        formats = {}
        for name, described in others.items():
            kind = described.get("format") if isinstance(described, dict) else None
            if not isinstance(kind, str) or kind not in FORMATS or kind in (DENSE, LOW_RANK):
                raise ValueError(f"{path} has the layer {name!r} in a format unknown here: {kind!r:.80}")
            formats[name] = kind, {key: value for key, value in described.items() if key != "format"}
        return cls(header["architecture"], shapes, formats, coded, aliases)


def save(model: nn.Module, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
    """Write a model to one file, by atomic replace.

    Args:
        model: any module. One that consists of parts that this library knows (linear and low-rank layers,
            the common activations, `nn.Sequential`, `MLP`, `Normalize`) is rebuilt by `load(path)` alone;
            any other needs `load(path, into=...)`.
        path: file to write, ending in `.safetensors`.
        metadata: JSON-able values to keep in the file, such as where the model comes from.

    Raises:
        ValueError: the file's name has another ending, or no file can be written there.
        TypeError: the metadata is not JSON-able.
    """
    check_output(path, (SAFETENSORS,))
    with unwrapped(model) as plain:
        state, architecture, layers = plain.state_dict(), describe(plain), _formed_layers(plain)
    tensors: dict[str, Tensor] = {}
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        # with strides: a square weight and its transposed view start at the same address
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            aliases[name] = first[place]  # a module registered twice is stored once
        else:
            first[place] = name
            tensors[name] = tensor.detach().cpu().contiguous().clone()
    coded = {name: module for name, module in plain.named_modules() if isinstance(module, Coded)}
    header = {
        "version": FORMAT_VERSION,
        "architecture": architecture,
        "low_rank": {
            name: [layer.right[0].numel(), layer.rank, len(layer.left)]
            for name, (layer, format, _) in layers.items()
            if format == LOW_RANK
        },
        "formats": {
            name: {"format": format, **options}
            for name, (_, format, options) in layers.items()
            if format != LOW_RANK
        },
        "dtypes": sorted({str(t.dtype) for t in tensors.values()}),
        "aliases": aliases,
        "metadata": metadata or {},
    }
    if coded:
        del header["version"], header["dtypes"]
        header["coded"] = {name: describe(module) for name, module in coded.items()}
        codes = {
            f"{name}.{key}_codes".lstrip(".") for name, c in coded.items() for key in coded_names(c.layer)
        }
        header, tensors = {"version": CODED_VERSION}, {MODEL: packed(header, tensors, codes)}
    write_tensors(path, tensors, header)


def load(
    path: str | os.PathLike[str], into: nn.Module | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """Read a model that `save` wrote.

    Args:
        path: file to read.
        into: model with the original, dense architecture, for models with parts that this library does not
            know. It is changed: the layers that are compressed in the file are replaced, keeping their hooks,
            and the weights are loaded.
        device: device to put the model on.

    Returns:
        The model in evaluation mode; the model inside where `into` is compiled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, was not written by this library, has a later version, or does not
            fit `into`.
    """
    header, tensors = read_tensors(path)
    described = ModelHeader.checked(header, tensors, path)
    for alias, original in described.aliases.items():
        tensors[alias] = tensors[original]
    if into is not None:
        with unwrapped(into) as model:
            _reform(model, described, tensors, path)
            _recode(model, described, tensors, path)
            _fill(model, tensors, path)
    elif described.architecture is None:
        raise ValueError(
            f"{path} holds a model made of parts that only its own code can build: "
            f"pass into=<the original model> to load the weights and ranks into it"
        )
    else:
        model = build(described.architecture, tensors, path)
    for alias, original in described.aliases.items():
        _tie(model, alias, original)
    return model.to(device).eval()


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Load tensors into a user's model, tensor by tensor in the file's dtypes."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"{path} cannot be loaded into a model on the meta device, which holds no numbers: {name}"
            )
        if name in tensors:
            if tensor.is_floating_point() != tensors[name].is_floating_point():
                raise ValueError(
                    f"{path} does not fit the model: {name} is {tensors[name].dtype} in the file and "
                    f"{tensor.dtype} in the model"
                )
            tensor.data = tensor.data.to(tensors[name].dtype)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model: {error}") from error


def rebuildable(model: nn.Module) -> bool:
    """Tell whether `load` rebuilds such a model from its file alone, without `into`."""
    return describe(model) is not None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata that `save` was given, without the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or was not written by this library.
    """
    with _open(path) as file:
        header = _header(path, file.metadata())
    if header["version"] == CODED_VERSION:
        header, _ = read_tensors(path)
    metadata = header.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} is damaged: its metadata is a {type(metadata).__name__}")
    return metadata


def write_tensors(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, by atomic replace."""
    text = json.dumps(header, allow_nan=False)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={HEADER: text})
        except SafetensorError as error:  # it gives only the number of the system's error
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path)) from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a file to write that replaces `path` at the end, or is removed after an error."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from other users of a cluster
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_tensors` wrote: the header, and the tensors on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, was not written by this library, or has a later version.
    """
    with _open(path) as file:
        header = _header(path, file.metadata())
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except Exception as error:  # torch raises several kinds where it has no dtype for a tensor
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if header["version"] == CODED_VERSION:
        content = tensors.get(MODEL)
        if content is None or content.dtype != torch.uint8:
            raise ValueError(f"{path} is damaged: it has no tensor {MODEL!r} of bytes")
        return unpacked(content.flatten(), path)
    return header, tensors


def _open(path: str | os.PathLike[str]) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = recognise(path)
    if kind is not None and kind.reader != SAFETENSORS:
        advice = "" if kind.reader is None else ": read it with arsvd.read_model"
        raise ValueError(f"{path} is not a whole safetensors file: it is {kind.words}{advice}")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def _header(path: str | os.PathLike[str], metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or HEADER not in metadata:
        raise ValueError(
            f"{path} is a safetensors file that this library did not write: its header is missing"
        )
    try:
        header: Any = json.loads(metadata[HEADER])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header is not JSON that can be read: {error}") from error
    version = header.get("version") if isinstance(header, dict) else None
    if version not in (FORMAT_VERSION, CODED_VERSION):
        shown = version if isinstance(version, int | None) else type(version).__name__
        known = f"this release reads format {FORMAT_VERSION} and {CODED_VERSION}"
        raise ValueError(f"{path} is of format {shown}; {known}")
    found: dict[str, Any] = header
    return found


def _formed_layers(model: nn.Module) -> dict[str, tuple[Any, str, dict[str, Any]]]:
    """Return each layer that is not dense, by name, with its format and the options that remake it."""
    found = {}
    inside = {id(module.layer) for module in model.modules() if isinstance(module, Coded)}
    for name, module in model.named_modules():
        for format in FORMATS if id(module) not in inside else ():
            options = FORMATS[format].options(module)
            if options is not None:
                found[name] = module, format, options
    return found


def _recode(
    model: nn.Module, header: ModelHeader, tensors: dict[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Put the coded layers of a file where the model has dense ones."""
    modules = dict(model.named_modules())
    for name, description in header.coded.items():
        old = modules.get(name)
        site = None if old is None else site_of(old)
        if site is None or description is None or not isinstance(description, dict):
            raise ValueError(f"{path} has a coded layer {name!r}, the model has {old}")
        prefix = f"{name}." if name else ""
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        new = build(description, own, path)
        weight = getattr(new, "weight", None)
        if not isinstance(weight, Tensor) or weight.shape != site.weight.shape:
            raise ValueError(f"{path} has a coded layer {name!r} of another shape than the model's {old}")
        if (reason := obstacle(site.layer, type(site))) is not None:
            raise ValueError(f"layer {name!r} of the model cannot become the file's coded one: {reason}")
        carry(site, new)
        replace_layer(model, site.layer, new)


def _tie(model: nn.Module, alias: str, original: str) -> None:
    """Make two parameters one again that were one when the model was saved."""
    (path, name), (source, key) = alias.rpartition(".")[::2], original.rpartition(".")[::2]
    parameters, others = model.get_submodule(path)._parameters, model.get_submodule(source)._parameters
    if name in parameters and key in others:
        parameters[name] = others[key]


def _reform(
    model: nn.Module, header: ModelHeader, tensors: dict[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Replace dense layers of a model by empty ones in the formats of a file."""
    modules = dict(model.named_modules())
    wanted = {name: (LOW_RANK, {"rank": shape[1]}) for name, shape in header.low_rank.items()}
    for name, (format, options) in {**wanted, **header.formats}.items():
        old = modules.get(name)
        site = None if old is None else site_of(old)
        shape = header.low_rank.get(name)
        if site is None or shape not in (None, (site.in_features, options.get("rank"), site.out_features)):
            sizes = "" if shape is None else f" of {shape[0]} -> {shape[2]}"
            raise ValueError(
                f"{path} has a {format.replace('_', '-')} layer {name!r}{sizes}, the model has {old}"
            )
        if (reason := obstacle(site.layer, type(site))) is not None:
            raise ValueError(f"layer {name!r} of the model cannot become the file's compressed one: {reason}")
        try:
            new = FORMATS[format].empty(site, options, f"{name}.bias" in tensors)
        except (
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:  # options that are none of the format's
            raise ValueError(f"{path} is damaged: no layer {name!r} has {options!r:.80}: {error}") from error
        carry(site, new)
        replace_layer(model, site.layer, new)
