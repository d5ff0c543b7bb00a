"""Compiled, data-parallel and scripted models: run without their wrappers, or refused in words."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import arsvd
from arsvd.modes import unwrapped
from arsvd.refit import refit
from arsvd.statistics.pack import pack_spectra
from arsvd.statistics.stacking import dense_chain

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(3))
Y = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(4))


def compiled(module: nn.Module) -> nn.Module:
    made = torch.compile(module, backend="eager")
    assert isinstance(made, nn.Module)
    return made


def chain() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 14), nn.ReLU()), nn.Linear(14, 4)
    )


def with_compiled_parts() -> nn.Module:
    model = chain()
    model[0], model[2] = compiled(model[0]), compiled(model[2])
    return model


def compiled_in_place(*parts: str) -> nn.Module:
    model = chain()
    for part in parts:
        model.get_submodule(part).compile(backend="eager")
    return model


def with_compiled_forward() -> nn.Module:
    model = chain()
    model.forward = torch.compile(model.forward, backend="eager")
    return model


class Decorated(nn.Sequential):
    @torch.compile(backend="eager")
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def data_parallel() -> nn.Module:
    """A wrapper without devices, as on a machine that has none: a GPU would take the model."""
    wrapper = nn.DataParallel(chain()).cpu()
    wrapper.device_ids = []
    return wrapper


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: compiled(chain()),
    "compiled in place": lambda: compiled_in_place(""),
    "compiled parts": with_compiled_parts,
    "parts compiled in place": lambda: compiled_in_place("0", "2", "3"),
    "compiled forward": with_compiled_forward,
    "decorated class": lambda: Decorated(*chain()),
    "data parallel": data_parallel,
    "compiled data parallel": lambda: compiled(data_parallel()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_models_are_treated_as_the_model_inside(name: str, tmp_path: Path) -> None:
    model, plain = WRAPPED[name]().eval(), chain().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = arsvd.spectra(plain, X)
    spectra = arsvd.spectra(model, X)
    assert [s.name for s in spectra] == ["0", "2.0", "3"]
    assert all(torch.equal(a.energy, b.energy) for a, b in zip(spectra, expected, strict=True))
    assert spectra.coverage == expected.coverage
    assert arsvd.evaluate(model, X, Y) == arsvd.evaluate(plain, X, Y)
    rules = [arsvd.Energy(0.5), arsvd.Energy(0.9)]
    assert arsvd.front(model, spectra, (X, Y), rules) == arsvd.front(plain, expected, (X, Y), rules)
    plan = arsvd.plan(spectra, arsvd.Ranks((2, 2, 1)))
    small = arsvd.compress(model, spectra, plan)
    factored = {name for name, m in small.named_modules() if isinstance(m, arsvd.LowRankLinear)}
    assert factored == {"0", "2.0", "3"}
    assert all(vars(module).get("_compiled_call_impl") is None for module in small.modules())
    assert not any(hasattr(module, "_orig_mod") or hasattr(module, "module") for module in small.modules())
    wanted = arsvd.compress(plain, expected, plan)
    assert torch.equal(small(X), wanted(X))
    assert torch.equal(refit(model, spectra, plan, X)(X), refit(plain, expected, plan, X)(X))
    path = tmp_path / "wrapped.safetensors"
    arsvd.save(model, path)
    if name != "decorated class":
        assert torch.equal(arsvd.load(path)(X), plain(X))
    arsvd.save(small, path)
    assert torch.equal(arsvd.load(path, into=WRAPPED[name]())(X), wanted(X))
    # the model is as it was, wrappers included
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    assert torch.equal(model(X), plain(X))


def test_the_wrapper_is_on_again_and_runs_compiled_code() -> None:
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        calls.append(len(inputs))
        return graph.forward

    torch.compiler.reset()  # else code of other tests may be taken from its cache
    model = torch.compile(chain(), backend=backend)
    arsvd.spectra(model, X)
    arsvd.evaluate(model, X, Y)
    assert calls == []
    model(X)
    assert len(calls) > 0


def test_a_part_that_is_replaced_meanwhile_stays_replaced() -> None:
    model, new = nn.Sequential(compiled(nn.Linear(12, 4)), compiled(nn.ReLU())), nn.Linear(12, 4)
    with unwrapped(model) as plain:
        assert [type(part) for part in plain] == [nn.Linear, nn.ReLU]
        plain[0] = new
    assert model[0] is new
    assert type(model[1]).__name__ == "OptimizedModule"


def test_packs_take_compiled_models() -> None:
    plain = arsvd.MLP([12, 16, 4])
    model = compiled(plain)
    assert list(dense_chain(model) or {}) == ["linear1", "linear2"]
    (found,), (expected,) = pack_spectra([model], X), pack_spectra([plain], X)
    assert found.coverage == expected.coverage
    assert all(torch.equal(a.energy, b.energy) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_models() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = nn.parallel.DistributedDataParallel(chain())
    spectra = arsvd.spectra(model, X)
    small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((2, 2, 1))))
    assert type(small) is nn.Sequential
    assert [s.name for s in spectra] == ["0", "2.0", "3"]
    # made without its constructor, which wants a GPU
    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    with pytest.raises(ValueError, match="FullyShardedDataParallel keeps a part of each weight: gather"):
        arsvd.spectra(sharded, X)


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel], ids=["compiled", "data parallel"])
def test_hooks_of_a_wrapper_are_refused(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = wrap(chain())
    model.register_forward_hook(lambda m, a, outputs: -outputs)
    with pytest.raises(ValueError, match=r"has hooks of its own \(forward hook <lambda>\)"):
        arsvd.spectra(model, X)
    with pytest.raises(ValueError, match="register them on the model inside"):
        arsvd.evaluate(model, X, Y)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, X)], ids=["script", "trace"])
def test_torchscript_is_refused_or_left_dense(make: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(ValueError, match="is a TorchScript module, whose layers cannot be replaced: take"):
        arsvd.spectra(make(chain()), X)
    model = nn.Sequential(nn.Linear(12, 12), make(chain()))
    spectra = arsvd.spectra(model, X)
    assert [s.name for s in spectra] == ["0"]
    assert spectra.coverage is not None
    assert spectra.coverage.skipped == (("1", "a TorchScript module, whose layers cannot be replaced"),)
    small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((2,))))
    assert isinstance(small[0], arsvd.LowRankLinear)
    assert small(X).shape == (40, 4)
