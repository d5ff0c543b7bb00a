"""Files that somebody made to harm who reads them: `.pt2` archives and the programs in them."""

import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.files.exported import archive, read_exported

Parts = dict[str, bytes]
BATCH = ({0: torch.export.Dim("batch")},)
MODEL = "good/models/model.json"
WEIGHTS = "good/data/weights/model_weights_config.json"
SAMPLES = "good/data/sample_inputs/model.pt"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    model = arsvd.MLP([12, 8, 4]).eval()
    torch.export.save(torch.export.export(model, (torch.randn(3, 12),), dynamic_shapes=BATCH), path)
    return path


@pytest.fixture(scope="module")
def parts(good: Path) -> Parts:
    with zipfile.ZipFile(good) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder in which whatever runs leaves a file "ran"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported.py").write_text("open('ran', 'w').close()\n")
    yield
    sys.modules.pop("imported", None)
    assert not (tmp_path / "ran").exists()


def pack(parts: Parts, path: Path, packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two parts of one name
        for name, content in parts.items():
            file.writestr(name, content)
    return path


class Touch:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save(({"x": Touch()},), buffer)
    return buffer.getvalue()


def edited(parts: Parts, name: str, edit: Callable[[Any], None]) -> Parts:
    content = json.loads(parts[name])
    edit(content)
    return {**parts, name: json.dumps(content).encode()}


def first_tensor(config: dict[str, Any]) -> dict[str, Any]:
    return next(iter(config["config"].values()))


# name: what becomes of the parts, the message
ARCHIVES: dict[str, tuple[Callable[[Parts], Parts], str]] = {
    "upwards": (lambda p: {**p, "good/../x": b""}, "no plain file"),
    "absolute": (lambda p: {**p, "/etc/x": b""}, "no plain file"),
    "a backslash": (lambda p: {**p, "good/extra/..\\x": b""}, "no plain file"),
    "a drive": (lambda p: {**p, "C:/x": b""}, "no plain file"),
    "a folder": (lambda p: {**p, "good/extra/": b""}, "no plain file"),
    "another root": (lambda p: {**p, "other/extra/x": b""}, "one folder"),
    "compiled": (lambda p: {**p, "good/data/aotinductor/model/m.so": b""}, "compiled code"),
    "executorch": (lambda p: {**p, "good/executorch/m.pte": b""}, "does not write"),
    "TorchScript": (lambda p: {**p, "good/code/__torch__.py": b""}, "does not write"),
    "another model": (lambda p: {**p, "good/models/other.json": b"{}"}, "does not write"),
    "old weights": (lambda p: {**p, "good/data/weights/model.pt": b""}, "torch 2.8 and earlier"),
    "old form": (lambda p: {**p, "good/serialized_state_dict.pt": b""}, "torch 2.8 and earlier"),
    "no program": (lambda p: {n: c for n, c in p.items() if n != MODEL}, "has no models/model.json"),
    "no weights": (lambda p: {n: c for n, c in p.items() if n != WEIGHTS}, "has no data/weights"),
    "a weight is gone": (lambda p: {n: c for n, c in p.items() if not n.endswith("_1")}, "weight_1"),
    "no JSON": (lambda p: {**p, MODEL: b"{"}, "is not JSON"),
    "deep JSON": (lambda p: {**p, MODEL: b"[" * 10**5}, "is not JSON"),
    "a list": (lambda p: {**p, MODEL: b"[]"}, "is not a whole"),
    "too many objects": (lambda p: {**p, MODEL: b"[" + b"{}," * 100_001 + b"{}]"}, "100,00. objects"),
    "byte order": (lambda p: {**p, "good/byteorder": b"big"}, "another byte order"),
    "a pickle": (lambda p: {**p, SAMPLES: pickle.dumps(Touch())}, "needs pickle"),
    "a module": (lambda p: {**p, SAMPLES: pickled()}, "needs pickle"),
}


class TestArchives:
    @pytest.mark.usefixtures("_here")
    def test_a_part_that_differs_in_case(self, parts: Parts, tmp_path: Path) -> None:
        """torch finds a part whatever its case, and reads the last one."""
        name = SAMPLES.replace("model.pt", "MODEL.PT")
        with pytest.raises(ValueError, match="two parts of one name"):
            read_exported(pack({**parts, name: pickled()}, tmp_path / "bad.pt2"))

    @pytest.mark.usefixtures("_here")
    @pytest.mark.parametrize("order", ["good last", "good first"])
    def test_two_central_directories(self, good: Path, parts: Parts, tmp_path: Path, order: str) -> None:
        bad = pack({**parts, SAMPLES: pickled()}, tmp_path / "one.pt2").read_bytes()
        both = bad + good.read_bytes() if order == "good last" else good.read_bytes() + bad
        (tmp_path / "bad.pt2").write_bytes(both)
        if order == "good last":
            assert set(arsvd.find_sites(read_exported(tmp_path / "bad.pt2"))) == {"linear1", "linear2"}
        else:
            with pytest.raises(ValueError, match="needs pickle"):
                read_exported(tmp_path / "bad.pt2")

    @pytest.mark.usefixtures("_here")
    def test_torch_reads_only_what_was_checked(
        self, good: Path, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inner = pack({**parts, SAMPLES: pickled()}, tmp_path / "one.pt2").read_bytes()
        seen: list[dict[str, bytes]] = []
        load = torch.export.load

        def watched(file: io.BytesIO) -> torch.export.ExportedProgram:
            with zipfile.ZipFile(file) as handed:
                seen.append({name.partition("/")[2]: handed.read(name) for name in handed.namelist()})
            file.seek(0)
            return load(file)

        monkeypatch.setattr(torch.export, "load", watched)
        (tmp_path / "bad.pt2").write_bytes(inner + good.read_bytes())
        read_exported(tmp_path / "bad.pt2")
        (handed,) = seen
        assert handed["data/sample_inputs/model.pt"] == b""
        assert all(
            handed[f"data/weights/weight_{n}"] == parts[f"good/data/weights/weight_{n}"] for n in range(4)
        )

    @pytest.mark.usefixtures("_here")
    @pytest.mark.parametrize(("change", "text"), ARCHIVES.values(), ids=ARCHIVES)
    def test_parts(self, parts: Parts, tmp_path: Path, change: Callable[[Parts], Parts], text: str) -> None:
        with pytest.raises(ValueError, match=rf"bad\.pt2 .*{text}"):
            read_exported(pack(change(parts), tmp_path / "bad.pt2"))

    @pytest.mark.parametrize("kind", ["encrypted", "linked", "packing"])
    def test_headers(self, parts: Parts, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "bad.pt2"
        with zipfile.ZipFile(
            path, "w", zipfile.ZIP_LZMA if kind == "packing" else zipfile.ZIP_STORED
        ) as file:
            for name, content in parts.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = file.compression
                info.external_attr = (0o120777 if kind == "linked" else 0o100644) << 16
                file.writestr(info, content)
        if kind == "encrypted":
            content = bytearray(path.read_bytes())
            place = content.find(b"PK\x01\x02")
            content[place + 8] |= 1
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"encrypted|no plain file"):
            read_exported(path)

    def test_a_small_file_with_a_large_part(self, parts: Parts, tmp_path: Path) -> None:
        """Refused from the listing, without unpacking."""
        bomb = {**parts, "good/data/weights/weight_0": bytes(150 << 20)}
        path = pack(bomb, tmp_path / "bad.pt2", zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 1 << 20
        with pytest.raises(ValueError, match=r"holds 157,\d+,\d+ bytes in a file of"):
            read_exported(path)

    def test_a_header_that_lies_about_a_size(self, parts: Parts, tmp_path: Path) -> None:
        path = pack(
            {**parts, "good/data/weights/weight_0": bytes(10**6)}, tmp_path / "x.pt2", zipfile.ZIP_DEFLATED
        )
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", 10**6), struct.pack("<I", 384)))
        with pytest.raises(ValueError, match="not a whole"):
            read_exported(path)

    def test_compressed_by_somebody(self, parts: Parts, tmp_path: Path) -> None:
        assert arsvd.find_sites(read_exported(pack(parts, tmp_path / "m.pt2", zipfile.ZIP_DEFLATED)))

    @pytest.mark.parametrize(
        ("name", "value"), [("MOST_BYTES", 1000), ("MOST_PARTS", 5), ("MOST_OBJECTS", 50)]
    )
    def test_bounds(self, good: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
        monkeypatch.setattr(archive, name, value)
        with pytest.raises(ValueError, match=r"is larger than|more than 5 parts|up to 50 are read"):
            read_exported(good)


TENSORS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a pickle": (lambda t: t.update(use_pickle=True), "needs pickle"),
    "an object": (lambda t: t.update(path_name="custom_obj_0"), "needs pickle"),
    "another part": (lambda t: t.update(path_name="../sample_inputs/model.pt"), "needs pickle"),
    "more than there is": (
        lambda t: t["tensor_meta"].update(sizes=[{"as_int": 10**9}]),
        "1,000,000,000 numbers",
    ),
    "a negative size": (lambda t: t["tensor_meta"].update(sizes=[{"as_int": -1}]), "of shape"),
    "a symbolic size": (lambda t: t["tensor_meta"].update(sizes=[{"as_expr": {}}]), "not a whole"),
    "many dimensions": (lambda t: t["tensor_meta"].update(sizes=[{"as_int": 1}] * 65), "of shape"),
    "beyond the end": (
        lambda t: t["tensor_meta"].update(storage_offset={"as_int": 10**6}),
        "out of bounds",
    ),
}


class TestTensors:
    @pytest.mark.parametrize(("change", "text"), TENSORS.values(), ids=TENSORS)
    def test_descriptions(
        self, parts: Parts, tmp_path: Path, change: Callable[[dict[str, Any]], Any], text: str
    ) -> None:
        bad = edited(parts, WEIGHTS, lambda config: change(first_tensor(config)))
        with pytest.raises(ValueError, match=text):
            read_exported(pack(bad, tmp_path / "bad.pt2"))

    def test_zeros_that_take_no_room_in_the_file(self, parts: Parts, tmp_path: Path) -> None:
        """torch makes zeros of the stated size where a part is empty."""
        bad = edited(
            parts, WEIGHTS, lambda c: first_tensor(c)["tensor_meta"].update(sizes=[{"as_int": 1 << 40}])
        )
        bad["good/data/weights/weight_0"] = b""
        with pytest.raises(ValueError, match="holds 0 bytes for the 1,099,511,627,776 numbers"):
            read_exported(pack(bad, tmp_path / "bad.pt2"))


def graph(program: Any) -> Any:
    return program["graph_module"]["graph"]


def call(target: str, *arguments: dict[str, Any]) -> Callable[[Any], None]:
    """Make the first node of a program another call."""

    def change(program: Any) -> None:
        node = graph(program)["nodes"][0]
        inputs = [{"name": "", "arg": argument, "kind": 1} for argument in arguments]
        node.update(target=target, inputs=inputs or node["inputs"])

    return change


def rename(old: str, new: str) -> Callable[[Any], None]:
    def change(program: Any) -> None:
        text = json.dumps(program)
        assert json.dumps(old) in text
        program.update(json.loads(text.replace(json.dumps(old), json.dumps(new))))

    return change


def size(text: str) -> Callable[[Any], None]:
    def change(program: Any) -> None:
        for meta in graph(program)["tensor_values"].values():
            for entry in meta["sizes"]:
                if "as_expr" in entry:
                    entry["as_expr"]["expr_str"] = text

    return change


def tree(program: Any, of_a_part: bool) -> None:
    entries = program["graph_module"]["module_call_graph"]
    root = entries[0]["signature"]
    spec = json.loads(root["in_spec"])
    spec[1]["children_spec"][1]["context"] = json.dumps(
        [{"__enum__": True, "fqn": "imported:X", "name": "x"}]
    )
    if of_a_part:
        entries[-1]["signature"] = {**root, "in_spec": json.dumps(spec)}
    else:
        root["in_spec"] = json.dumps(spec)


CALLS = "no operation of torch"
EVIL = "__import__('os').system('touch ran')"
ONE = "Symbol('s1', positive=True, integer=True)"


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a function of Python": (call("torch.os.system", {"as_string": "touch ran"}), CALLS),
    "a loader": (call("torch.hub.load", {"as_string": "x"}), CALLS),
    "a function of a module": (call("_operator.methodcaller", {"as_string": "x"}), CALLS),
    "an extension": (call("#namespace:name"), CALLS),
    "another library": (call("torch.ops.torchvision.nms.default"), CALLS),
    "a file": (call("torch.ops.aten.from_file.default", {"as_string": "ran"}), CALLS),
    "a region that prints": (call("torch.ops.higher_order.print", {"as_string": "x"}), CALLS),
    "an unknown operation": (call("torch.ops.aten.nothing.default"), CALLS),
    "an attribute": (call("torch.ops.aten.linear.__class__"), CALLS),
    "a target among arguments": (call("torch.ops.aten.relu.default", {"as_operator": "torch.save"}), CALLS),
    "an object": (call("torch.ops.aten.relu.default", {"as_custom_obj": {"name": "x"}}), "needs pickle"),
    "a name": (rename("input", f"x={EVIL}"), "a name"),
    "a name of an argument": (rename("self", f"a={EVIL}, b"), "a name"),
    "a parameter": (rename("linear1.weight", f'linear1.w", {EVIL}, "x'), "a parameter"),
    "a parameter with underscores": (rename("linear1.weight", "__class__.weight"), "a parameter"),
    "a tree of inputs that imports": (lambda p: tree(p, False), "one tensor to one tensor"),
    "a size that calls": (size(EVIL), "no arithmetic"),
    "a size that looks up": (size("Symbol('s77').__class__"), "no arithmetic"),
    "a size that is text": (size(f"sympify({EVIL!r})"), "no arithmetic"),
    "a long number": (lambda p: p["schema_version"].update(major=10**30), "64 bits"),
    "many sizes": (lambda p: p["range_constraints"].update(u99999999999={}), "a size"),
    "a newer form": (lambda p: p["schema_version"].update(major=99), "schema version"),
}  # fmt: skip


# torch runs or waits for these; here they are left out
HARMLESS: dict[str, Callable[[Any], None]] = {
    "guards": lambda p: p.update(guards_code=["1 #\n)\nopen('ran', 'w')\ndef g():\n  (1"]),
    "a tree of a part's inputs": lambda p: tree(p, True),
    "metadata": lambda p: graph(p)["nodes"][0].update(metadata={"source_fn_stack": "x,torch.os.system"}),
    "a maximum of many": size(f"Max({ONE}," + ",".join(f"Mul({ONE},s{n})" for n in range(2, 300)) + ")"),
    "a tower of powers": size(f"Add({ONE}, Pow(Integer(2), Pow(Integer(9), Integer(9))))"),
}  # fmt: skip


@pytest.mark.usefixtures("_here")
class TestPrograms:
    @pytest.mark.parametrize(("change", "text"), REFUSED.values(), ids=REFUSED)
    def test_refused(self, parts: Parts, tmp_path: Path, change: Callable[[Any], None], text: str) -> None:
        with pytest.raises(ValueError, match=rf"bad\.pt2 .*{text}") as caught:
            read_exported(pack(edited(parts, MODEL, change), tmp_path / "bad.pt2"))
        assert len(str(caught.value)) < 600

    @pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
    def test_harmless(self, parts: Parts, good: Path, tmp_path: Path, change: Callable[[Any], None]) -> None:
        x = torch.randn(5, 12)

        def shared(program: Any) -> None:
            own = next(iter(program["range_constraints"]))
            change(program)
            program.update(json.loads(json.dumps(program).replace("'s1'", f"'{own}'")))

        read = read_exported(pack(edited(parts, MODEL, shared), tmp_path / "odd.pt2"))
        torch.testing.assert_close(read(x), read_exported(good)(x))

    def test_a_repeated_key_is_read_in_only_one_way(self, parts: Parts, tmp_path: Path) -> None:
        """What is handed to torch is written from what was parsed."""
        text = parts[MODEL].decode()
        twice = text.replace('"target": "torch.ops', '"target": "torch.os.system", "target": "torch.ops', 1)
        read_exported(pack({**parts, MODEL: twice.encode()}, tmp_path / "odd.pt2"))
        twice = text.replace('"target": "torch.ops', '"target": "torch.os.system", "x": "torch.ops', 1)
        with pytest.raises(ValueError, match=CALLS):
            read_exported(pack({**parts, MODEL: twice.encode()}, tmp_path / "bad.pt2"))


class Sizes(nn.Module):
    """Computes with the sizes of its input, in the ways that torch writes as arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(nn.functional.avg_pool2d(x, 2, ceil_mode=True), scale_factor=1.5)
        x = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        x = x.reshape(x.shape[0] * 2, -1).reshape(x.shape[0], -1)
        return self.layer(torch.einsum("bi,bj->bi", x, x)) * (x.shape[0] ** 2 / (x.shape[0] % 3 + 1))


def test_programs_that_compute_with_sizes(tmp_path: Path) -> None:
    model = Sizes().eval()
    dynamic = ({0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    program = torch.export.export(model, (torch.randn(5, 1, 11, 13),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "m.pt2")
    read = read_exported(tmp_path / "m.pt2")
    for shape in ((1, 1, 11, 13), (4, 1, 9, 20)):
        torch.testing.assert_close(read(torch.ones(shape)), model(torch.ones(shape)))


def test_a_file_that_ships_its_data_is_read(tmp_path: Path) -> None:
    images = torch.randn(5000, 12)
    model = arsvd.MLP([12, 4]).eval()
    torch.export.save(torch.export.export(model, (images[:3],), dynamic_shapes=BATCH), tmp_path / "m.pt2")
    assert os.path.getsize(tmp_path / "m.pt2") > images.nbytes
    torch.testing.assert_close(read_exported(tmp_path / "m.pt2")(images), model(images))
