"""Names of files to write: what they are refused for, before anything is done."""

from pathlib import Path

import pytest
import torch

import arsvd
from arsvd.files.endings import check_output, load_line

NAMES = ["m.onnx", "m.pt", "m.bin", "m", ".safetensors", "m.safetensors.gz", "m.", "m.pt2x"]


@pytest.mark.parametrize("name", NAMES)
def test_every_writer_refuses_other_endings(tmp_path: Path, name: str) -> None:
    model = arsvd.MLP([4, 3])
    with pytest.raises(ValueError, match=r"is written as \.safetensors or \.pt2, not as"):
        arsvd.write_model(model, tmp_path / name, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"is written as \.safetensors, not as"):
        arsvd.save(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_is_not_named_as_a_program(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is written as \.safetensors, not as 'm\.pt2'"):
        arsvd.save(arsvd.MLP([4, 3]), tmp_path / "m.pt2")


@pytest.mark.parametrize("name", ["m.SafeTensors", "m.PT2"])
def test_upper_case_is_the_same_ending(tmp_path: Path, name: str) -> None:
    model, x = arsvd.MLP([4, 3]).eval(), torch.randn(5, 4)
    arsvd.write_model(model, tmp_path / name, torch.zeros(2, 4))
    torch.testing.assert_close(arsvd.read_model(tmp_path / name)(x), model(x))


def test_folders_and_inputs(tmp_path: Path) -> None:
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "m.pt2").write_bytes(b"model")
    (tmp_path / "link.pt2").symlink_to(tmp_path / "m.pt2")
    with pytest.raises(ValueError, match=r"folder\.pt2 is a folder; give the name of a file"):
        check_output(tmp_path / "folder.pt2")
    with pytest.raises(ValueError, match=r"the folder of .*nowhere.* does not exist"):
        check_output(tmp_path / "nowhere" / "m.pt2")
    for name in ("m.pt2", "link.pt2"):
        with pytest.raises(ValueError, match="is read as well, and would be overwritten"):
            check_output(tmp_path / name, inputs=(None, tmp_path / "m.pt2"))
    check_output(tmp_path / "other.pt2", inputs=(None, tmp_path / "m.pt2"))


def test_the_line_that_loads_a_file() -> None:
    assert load_line("a.PT2") == 'torch.export.load("a.PT2").module()'
    assert load_line("a.safetensors") == 'arsvd.load("a.safetensors")'
    assert load_line("a.safetensors", into=True) == 'arsvd.load("a.safetensors", into=<the dense model>)'
