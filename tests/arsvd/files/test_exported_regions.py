"""Regions of exported programs: sub-graphs that run in another mode, or under a condition."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.while_loop import while_loop
from torch.utils.checkpoint import checkpoint

import arsvd
from arsvd.files.exported import ClosedRegion, closed_regions, read_exported, write_exported

relu = nn.functional.relu


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(self.inside(self.a(x))))

    def inside(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class NoGrad(Three):
    def inside(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return relu(self.b(x)) + x


class AllNoGrad(Three):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.b(self.a(x))
            with torch.enable_grad():
                x = self.norm(x)
            return self.c(self.b(x))


class Autocast(Three):
    def inside(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = relu(self.b(x))
        return x.float()


class AutocastOff(Three):
    def inside(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.b(x)


class Shared(Three):
    """One layer within and outside of a region."""

    def inside(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.b(x)
        return self.b(x) + y.float()


class Conditional(Three):
    def inside(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.b(x), lambda x: 2 * relu(self.b(x)), (x,))


class Checkpointed(Three):
    def inside(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.b, x, use_reentrant=False)
        return found


class Mapped(Three):
    def inside(self, x: Tensor) -> Tensor:
        found: Tensor = map_rows(lambda row: self.b(row), x)
        return found


class Loop(Three):
    def inside(self, x: Tensor) -> Tensor:
        start = torch.zeros((), dtype=torch.int64)
        found: Tensor = while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.b(x)), (start, x))[1]
        return found


OPENED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "no_grad": (NoGrad, ["a", "b", "c"]),
    "all no_grad, nested": (AllNoGrad, ["a", "b", "c"]),
    "autocast": (Autocast, ["a", "autocast.body.b", "c"]),
    "autocast off": (AutocastOff, ["a", "autocast.body.b", "c"]),
    "within and outside": (Shared, ["a", "autocast.body.b", "c"]),
    "cond": (Conditional, ["a", "cond.when_true.b", "c"]),
    "checkpoint": (Checkpointed, ["a", "b", "c"]),
}


def export(model: nn.Module, path: Path) -> nn.Module:
    program = torch.export.export(
        model, (torch.randn(5, 12),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, path)
    return torch.export.load(path).module()


@pytest.mark.parametrize(("make", "layers"), OPENED.values(), ids=OPENED)
def test_layers_within_regions_are_compressed(
    make: Callable[[], nn.Module], layers: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(200, 12)
    program = export(model, tmp_path / "m.pt2")
    read = read_exported(tmp_path / "m.pt2")
    assert sorted(arsvd.find_sites(read)) == sorted(layers)
    assert closed_regions(read) == ()
    for inputs in (x[:1], x, -x):
        torch.testing.assert_close(read(inputs), program(inputs), rtol=0, atol=0)

    small = arsvd.compress(
        read, spectra := arsvd.spectra(read, x), plan := arsvd.plan(spectra, arsvd.Energy(0.5))
    )
    assert all(rank is not None for rank in plan.ranks)
    assert sum(p.numel() for p in small.parameters()) == plan.params < plan.dense_params
    assert sum(p.numel() for p in read.parameters()) == plan.dense_params
    for whole in (small, read):
        write_exported(whole, tmp_path / "again.pt2", x[:7])
        again = read_exported(tmp_path / "again.pt2")
        torch.testing.assert_close(again(x), whole(x), rtol=1e-4, atol=1e-4)
    assert sorted(arsvd.find_sites(again)) == sorted(layers)
    arsvd.save(small, tmp_path / "small.safetensors")
    loaded = arsvd.load(tmp_path / "small.safetensors", into=read_exported(tmp_path / "m.pt2"))
    torch.testing.assert_close(loaded(x), small(x))


def test_an_error_within_a_region_leaves_autocast_as_it_was(tmp_path: Path) -> None:
    export(Autocast().eval(), tmp_path / "m.pt2")
    read = read_exported(tmp_path / "m.pt2")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    arsvd.find_sites(read)["autocast.body.b"].layer.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        read(torch.randn(3, 12))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("make", "kind"), [(Mapped, "map_impl"), (Loop, "while_loop")])
def test_a_closed_region_is_named(make: Callable[[], nn.Module], kind: str, tmp_path: Path) -> None:
    model, x = make().eval(), torch.randn(6, 12)
    program = export(model, tmp_path / "m.pt2")
    read = read_exported(tmp_path / "m.pt2")
    assert list(arsvd.find_sites(read)) == ["a", "c"]
    (region,) = closed_regions(copy.deepcopy(read))
    assert region == ClosedRegion(region.name, kind, 32 * 32 + 32)
    for calibration in (None, x):
        coverage = arsvd.spectra(read, calibration=calibration).coverage
        assert coverage is not None
        assert coverage.skipped == (
            (region.name, "a region of the program that stays closed, 1,056 numbers"),
        )
        assert coverage.params + 1056 <= coverage.model_params
    torch.testing.assert_close(read(x), program(x), rtol=0, atol=0)
    write_exported(read, tmp_path / "again.pt2", x)
    torch.testing.assert_close(read_exported(tmp_path / "again.pt2")(x), program(x))


def test_modules_of_another_origin_have_no_closed_regions() -> None:
    assert closed_regions(nn.Linear(2, 2)) == ()


def test_training_mode_within_a_region(tmp_path: Path) -> None:
    class Dropping(Three):
        def inside(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return nn.functional.dropout(self.b(x), 0.5, training=True)

    export(Dropping().eval(), tmp_path / "m.pt2")
    with pytest.raises(ValueError, match="was exported in training mode"):
        read_exported(tmp_path / "m.pt2")
