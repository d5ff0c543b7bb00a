"""Headers of our own files as a stranger may write them: refused in words, and nothing large is made."""

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import arsvd
from arsvd.files.codes import MODEL, opened, sealed
from arsvd.files.serialization import read_metadata


def own_header(path: Path, change: Callable[[dict[str, Any]], object], **tensors: Tensor) -> None:
    """A saved model with its header changed, and tensors in place of its own where there are any."""
    model = arsvd.MLP([6, 8, 4])
    spectra = arsvd.spectra(model)
    arsvd.save(arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((2, None)))), path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["arsvd"])
        kept = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(header)
    save_file({**kept, **tensors}, path, {"arsvd": json.dumps(header)})


def coded_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A saved model with codes, its description changed under a checksum that is right."""
    arsvd.save(arsvd.quantise(arsvd.MLP([6, 8, 4]), 1.0), path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        header, body = opened(file.get_tensor(MODEL).numpy().tobytes())
    change(header)
    save_file({MODEL: sealed(header, body)}, path, metadata)


def part(header: dict[str, Any], number: int) -> dict[str, Any]:
    return header["architecture"]["parts"][number][1]


def deep(levels: int) -> dict[str, Any]:
    here: dict[str, Any] = {"kind": "relu"}
    for _ in range(levels):
        here = {"kind": "sequential", "parts": [["a", here]]}
    return here


HUGE = 10**12
CONVOLUTION: dict[str, Any] = {
    "group_channels": 2,
    "out_channels": 2,
    "groups": 1,
    "kernel_size": [2, 2],
    "stride": [1, 1],
    "padding": "explicit",
    "amounts": [0, 0],
    "dilation": [1, 1],
    "padding_mode": "zeros",
    "bias": True,
}
# name: what is done to the header, the text
LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a dense layer of 10^24 numbers": (
        lambda h: part(h, 3).update(in_features=HUGE, out_features=HUGE),
        "larger than every tensor of the file",
    ),
    "a low-rank layer of 10^12 ranks": (lambda h: part(h, 1).update(rank=HUGE), "larger than every tensor"),
    "low ranks among the other formats": (
        lambda h: h.update(formats={"linear1": {"format": "low_rank", "rank": HUGE}}),
        "in a format unknown here: 'low_rank'",
    ),
    "a format that nobody knows": (
        lambda h: h.update(formats={"linear1": {"format": ["a"]}}),
        "in a format unknown here",
    ),
    "formats as a list": (lambda h: h.update(formats=[1]), "lists no layers"),
    "a convolution of 10^12 windows": (
        lambda h: part(h, 3).update(kind="conv2d", **{**CONVOLUTION, "kernel_size": [HUGE, HUGE]}),
        "which is no list|is described by",
    ),
    "a convolution without windows": (
        lambda h: h["architecture"]["parts"].append(["c", {"kind": "conv2d", **CONVOLUTION, "stride": []}]),
        "has the windows",
    ),
    "a convolution of no groups": (
        lambda h: h["architecture"]["parts"].append(["c", {"kind": "conv2d", **CONVOLUTION, "groups": 0}]),
        "groups must be a positive integer",
    ),
    "a convolution of another padding": (
        lambda h: h["architecture"]["parts"].append(["c", {"kind": "conv2d", **CONVOLUTION, "padding": "x"}]),
        "Invalid padding string",
    ),
    "a normalisation of 10^12 channels": (
        lambda h: h["architecture"]["parts"].insert(0, ["n", {"kind": "normalize", "channels": HUGE}]),
        "larger than every tensor",
    ),
    "another width": (
        lambda h: part(h, 3).update(in_features=7),
        "(?s)does not fit the model: .*size mismatch",
    ),
    "no bias": (lambda h: part(h, 3).update(bias=False), "(?s)does not fit the model: .*Unexpected key"),
    "a part more": (
        lambda h: h["architecture"]["parts"].append(
            ["x", {"kind": "linear", "in_features": 4, "out_features": 4, "bias": True}]
        ),
        "(?s)does not fit the model: .*Missing key",
    ),
    "a width that is a text": (
        lambda h: part(h, 3).update(in_features="8"),
        "in_features = '8', which is no int",
    ),
    "a width that is true": (lambda h: part(h, 3).update(in_features=True), "which is no int"),
    "a width below 0": (lambda h: part(h, 3).update(in_features=-8), "larger than every tensor"),
    "a width that is a fraction": (lambda h: part(h, 3).update(in_features=8.5), "which is no int"),
    "an option too many": (lambda h: part(h, 3).update(device="cuda"), "is described by"),
    "an option too few": (lambda h: part(h, 3).pop("bias"), "is described by"),
    "no kind": (lambda h: part(h, 3).pop("kind"), "the file names a part None"),
    "a kind that is a list": (lambda h: part(h, 3).update(kind=[]), r"the file names a part \[\]"),
    "a part that is a text": (lambda h: h["architecture"]["parts"].append(["x", "relu"]), "has a str where"),
    "parts that are none": (lambda h: h["architecture"].update(parts=3), "a chain without a list"),
    "parts of one entry": (lambda h: h["architecture"].update(parts=[["a"]]), "a chain without a list"),
    "a name that is a number": (lambda h: h["architecture"]["parts"].append([3, {"kind": "relu"}]), "alike"),
    "a name twice": (lambda h: h["architecture"]["parts"].append(["linear1", {"kind": "relu"}]), "alike"),
    "a name with a dot": (
        lambda h: h["architecture"]["parts"].append(["a.b", {"kind": "relu"}]),
        "does not fit",
    ),
    "a name of the class": (
        lambda h: h["architecture"]["parts"].append(["forward", {"kind": "relu"}]),
        "does not fit the model",
    ),
    "a dropout of 2": (
        lambda h: h["architecture"]["parts"].append(["d", {"kind": "dropout", "p": 2.0}]),
        "has p = 2",
    ),
    "an unknown GELU": (
        lambda h: h["architecture"]["parts"].append(["g", {"kind": "gelu", "approximate": "x"}]),
        "has approximate = 'x'",
    ),
    "60 levels": (lambda h: h.update(architecture=deep(60)), "more than 50 levels"),
    "20,000 parts": (
        lambda h: h["architecture"].update(parts=[[f"r{n}", {"kind": "relu"}] for n in range(20_000)]),
        "more than 10,000 parts",
    ),
    "an architecture that is a list": (lambda h: h.update(architecture=[1]), "has a list where"),
    "no architecture": (lambda h: h.pop("architecture"), "its header has no 'architecture'"),
    "no low-rank layers": (lambda h: h.pop("low_rank"), "its header has no 'low_rank'"),
    "low-rank layers as a list": (lambda h: h.update(low_rank=[1]), "lists no layers"),
    "a low-rank layer of one size": (
        lambda h: h.update(low_rank={"linear1": [6]}),
        "the low-rank layer 'linear1'",
    ),
    "a low-rank layer of texts": (lambda h: h.update(low_rank={"linear1": "abc"}), "the low-rank layer"),
    "a low-rank layer of 10^12": (lambda h: h.update(low_rank={"linear1": [HUGE] * 3}), "the low-rank layer"),
    "a low-rank layer that is none": (
        lambda h: h.update(low_rank={"linear2": [8, 2, 4]}),
        "the low-rank layer",
    ),
    "aliases as a list": (lambda h: h.update(aliases=["a"]), "lists no layers"),
    "an alias of nothing": (lambda h: h.update(aliases={"a": "b"}), "'a' stand for 'b'"),
    "an alias of a number": (lambda h: h.update(aliases={"a": 3}), "'a' stand for 3"),
    "an alias of a tensor that is there": (
        lambda h: h.update(aliases={"linear2.bias": "linear1.bias"}),
        "'linear2.bias' stand for",
    ),
    "an alias without a place": (
        lambda h: h.update(aliases={"nowhere.weight": "linear2.weight"}),
        "(?s)does not fit the model: .*Unexpected key",
    ),
}


class TestHeadersThatLie:
    @pytest.mark.parametrize("name", LIES)
    def test_lies_are_refused_before_anything_is_built(self, tmp_path: Path, name: str) -> None:
        change, text = LIES[name]
        own_header(tmp_path / "m.safetensors", change)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for read in (arsvd.load, arsvd.read_model):
            with pytest.raises(ValueError, match=text) as error:
                read(tmp_path / "m.safetensors")
            assert "m.safetensors" in str(error.value)
            assert len(str(error.value)) < 1000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes

    def test_the_unchanged_header_is_read(self, tmp_path: Path) -> None:
        own_header(tmp_path / "m.safetensors", lambda h: h)
        assert arsvd.load(tmp_path / "m.safetensors")(torch.zeros(2, 6)).shape == (2, 4)
        # as older releases and other writers may have it
        own_header(tmp_path / "m.safetensors", lambda h: (h.pop("aliases"), h.pop("metadata")))
        assert arsvd.load(tmp_path / "m.safetensors")(torch.zeros(2, 6)).shape == (2, 4)

    def test_many_names_of_one_tensor_take_its_memory_once(self, tmp_path: Path) -> None:
        """200 layers of a megabyte each, told to be one."""
        linear = {"kind": "linear", "in_features": 512, "out_features": 512, "bias": False}
        names = [f"l{n}" for n in range(200)]
        header = {
            "version": 1,
            "architecture": {"kind": "sequential", "parts": [[name, linear] for name in names]},
            "low_rank": {},
            "aliases": {f"{name}.weight": "l0.weight" for name in names[1:]},
        }
        path = tmp_path / "m.safetensors"
        save_file({"l0.weight": torch.randn(512, 512)}, path, {"arsvd": json.dumps(header)})
        model = arsvd.load(path)
        assert len({tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}) == 1
        assert len(list(model.parameters())) == 1

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.float8_e4m3fn], ids=str)
    def test_weights_that_are_not_floats(self, tmp_path: Path, dtype: torch.dtype) -> None:
        bias = torch.ones(4).to(dtype)
        own_header(tmp_path / "m.safetensors", lambda h: h, **{"linear2.bias": bias})
        with pytest.raises(ValueError, match=rf"linear2\.bias holds {dtype}, no weights"):
            arsvd.load(tmp_path / "m.safetensors")

    @pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"version": ' + "9" * 5000 + "}"])
    def test_headers_that_are_not_json(self, tmp_path: Path, text: str) -> None:
        save_file({"w": torch.ones(2)}, tmp_path / "m.safetensors", {"arsvd": text})
        for read in (arsvd.load, read_metadata):
            with pytest.raises(ValueError, match="header is not JSON that can be read"):
                read(tmp_path / "m.safetensors")

    def test_metadata_that_is_not_a_mapping_is_refused(self, tmp_path: Path) -> None:
        own_header(tmp_path / "m.safetensors", lambda h: h.update(metadata=[1]))
        with pytest.raises(ValueError, match="its metadata is a list"):
            read_metadata(tmp_path / "m.safetensors")

    def test_loading_into_a_model_on_meta_or_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        own_header(tmp_path / "m.safetensors", lambda h: h)
        with torch.device("meta"):
            empty = arsvd.MLP([6, 8, 4])
        with pytest.raises(ValueError, match="on the meta device"):
            arsvd.load(tmp_path / "m.safetensors", into=empty)
        own_header(tmp_path / "m.safetensors", lambda h: h, **{"linear2.bias": torch.ones(4).long()})
        with pytest.raises(ValueError, match=r"linear2\.bias is torch\.int64 in the file"):
            arsvd.load(tmp_path / "m.safetensors", into=arsvd.MLP([6, 8, 4]))


# name: what is done to the header of a model with codes
CODED_LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "codes as a list": lambda h: h.update(codes=[1]),
    "no coding": lambda h: h.pop("coding"),
    "an unknown coding": lambda h: h.update(coding="gzip"),
    "10^12 codes": lambda h: h["codes"][0].__setitem__(1, [HUGE]),
    "10^12 by 10^12 codes": lambda h: h["codes"][0].__setitem__(1, [HUGE, HUGE]),
    "a code more": lambda h: h["codes"][0].__setitem__(1, [8, 7]),
    "fewer than no codes": lambda h: h["codes"][0].__setitem__(1, [-8, 6]),
    "codes of no shape": lambda h: h["codes"][0].__setitem__(1, "ab"),
    "codes of another name": lambda h: h["codes"][0].__setitem__(0, "other"),
    "codes of a name that is none": lambda h: h["codes"][0].__setitem__(0, 3),
    "codes of a name that is taken": lambda h: h["codes"][0].__setitem__(0, "linear1.steps"),
    "codes as floats": lambda h: h["codes"][0].__setitem__(2, "float32"),
    "no codes": lambda h: h.pop("codes"),
    "a layer of other codes": lambda h: part(h, 1).update(offset=0.25),
    "codes of a chain": lambda h: part(h, 1).update(layer={"kind": "sequential", "parts": []}),
    "codes of a chain of layers": lambda h: part(h, 1)["layer"].update(kind="relu"),
    "codes of codes": lambda h: part(h, 1).update(layer=dict(part(h, 1))),
    "weights of no dtype": lambda h: part(h, 1).update(dtype="int8"),
    "a larger layer": lambda h: part(h, 1)["layer"].update(in_features=8),
    "no others": lambda h: h.pop("others"),
    "others of 10^12 numbers": lambda h: h["others"][0].__setitem__(1, [HUGE]),
    "others that are twice there": lambda h: h["others"].append(h["others"][0]),
    "others of no dtype": lambda h: h["others"][0].__setitem__(2, "complex64"),
    "codes that are none of their dtype": lambda h: h["codes"][0].__setitem__(2, "int64"),
}


@pytest.mark.parametrize("name", CODED_LIES)
def test_codes_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.safetensors"
    coded_header(path, CODED_LIES[name])
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        arsvd.load(path)


CODED_TABLES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a list": lambda h: h.update(coded=[1]),
    "nothing of a layer": lambda h: h["coded"].update(linear1=None),
    "another part": lambda h: h["coded"].update(linear1={"kind": "relu"}),
    "a layer that is not there": lambda h: h["coded"].update(linear7=h["coded"]["linear1"]),
    "another layer's": lambda h: h["coded"].update(linear1=h["coded"]["linear2"]),
    "10^12 inputs": lambda h: h["coded"]["linear1"]["layer"].update(in_features=HUGE),
}


@pytest.mark.parametrize("name", CODED_TABLES)
def test_coded_layers_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.safetensors"
    coded_header(path, CODED_TABLES[name])
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        arsvd.load(path, into=arsvd.MLP([6, 8, 4]))


@pytest.mark.parametrize("place", [0, 3, 4, 7, 8, 40, -40, -1])
def test_a_flipped_bit_of_a_model_with_codes_is_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "m.safetensors"
    arsvd.save(arsvd.quantise(arsvd.MLP([6, 8, 4]), 1.0), path)
    with safe_open(path, framework="pt") as file:
        metadata, content = file.metadata(), file.get_tensor(MODEL)
    content[place] ^= 4
    save_file({MODEL: content}, path, metadata)
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged: the checksum differs"):
        arsvd.load(path)
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged: the checksum differs"):
        read_metadata(path)


def test_a_description_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    arsvd.save(arsvd.quantise(arsvd.MLP([6, 8, 4]), 1.0), path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({MODEL: sealed({"a": " " * 2**26}, b"")}, path, metadata)
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged: its description"):
        arsvd.load(path)
