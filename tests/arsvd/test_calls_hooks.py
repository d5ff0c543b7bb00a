"""Hooks: their order and flags, those of a whole process, and where they keep a model from a faster path."""

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import arsvd
from arsvd import Ranks, Spectra
from arsvd.evaluation.batched import measure_together
from arsvd.evaluation.evaluator import Evaluator
from arsvd.statistics.pack import pack_spectra
from arsvd.statistics.stacking import dense_chain

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(3))
Y = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(4))


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 14), nn.ReLU(), nn.Linear(14, 4))


def lowest(spectra: Spectra) -> arsvd.Plan:
    return arsvd.plan(spectra, Ranks((1,) * len(spectra)))


def loss(model: nn.Module) -> float:
    with torch.no_grad():
        return F.cross_entropy(model(X), Y).item()


def test_flags_and_order_of_hooks_are_kept() -> None:
    model, seen = chain(), []

    def note(text: str, answer: Any = None) -> Callable[..., Any]:
        return lambda *arguments: seen.append((text, len(arguments))) or answer

    layer = model[0]
    layer.register_forward_pre_hook(note("pre 2"))
    layer.register_forward_pre_hook(note("pre 1"), prepend=True, with_kwargs=True)
    layer.register_forward_hook(note("post 2"))
    layer.register_forward_hook(note("post 1"), prepend=True, with_kwargs=True)
    layer.register_forward_hook(note("always"), always_call=True)
    layer.register_full_backward_pre_hook(note("backward pre"))
    layer.register_full_backward_hook(note("backward"))
    layer.register_state_dict_pre_hook(note("saving"))
    layer.register_load_state_dict_pre_hook(note("loading"))
    spectra = arsvd.spectra(model)
    small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks((3, None, None))))
    expected = []
    for each in (model, small):
        seen.clear()
        each(X.clone().requires_grad_()).sum().backward()
        each.load_state_dict(each.state_dict())
        with pytest.raises((RuntimeError, TypeError)):
            each[0](torch.ones(2, 5))
        expected.append(list(seen))
    assert [text for text, _ in expected[0]][:5] == ["pre 1", "pre 2", "post 1", "post 2", "always"]
    assert {"backward pre", "backward", "saving", "loading"} <= {text for text, _ in expected[0]}
    assert expected[1] == expected[0]
    layer.register_forward_hook(note("later"))  # on the model alone
    seen.clear()
    small(X)
    assert ("later", 3) not in seen


def test_a_hook_with_a_closure_that_only_records_is_carried_where_inputs_show_it() -> None:
    model = chain()
    model.seen = []
    model[0].register_forward_hook(lambda m, a, o: model.seen.append(len(o)))
    spectra = arsvd.spectra(model, X)
    assert len(arsvd.compress(model, spectra, lowest(spectra))(X)) == len(X)


@pytest.fixture
def every_module() -> Iterator[list[str]]:
    """A hook on all modules of this process that changes what linear and low-rank layers give."""
    seen: list[str] = []

    def hook(module: nn.Module, arguments: Any, outputs: Tensor) -> Tensor | None:
        seen.append(type(module).__name__)
        return outputs + 1 if isinstance(outputs, Tensor) else None

    handle = torch_module.register_module_forward_hook(hook)
    yield seen
    handle.remove()


@pytest.mark.parametrize("name", ["residual", "nested sequential", "mlp"])
def test_hooks_on_all_modules_are_seen(
    name: str, zoo: dict[str, Callable[[], nn.Module]], every_module: list[str]
) -> None:
    model = zoo[name]().eval()
    assert dense_chain(model) is None
    spectra = arsvd.spectra(model)
    ranks = (1,) * len(spectra)
    evaluator = Evaluator(model, spectra, X, Y)
    measure_together([(evaluator, [ranks])])
    small = arsvd.compress(model, spectra, lowest(spectra), example=X)
    assert evaluator.metrics([ranks])[ranks].loss == pytest.approx(loss(small), rel=1e-5)
    with pytest.raises(ValueError, match=r"this process has hooks on all modules \(hook\)"):
        arsvd.compress(model, spectra, lowest(spectra))


def test_a_class_that_is_patched_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    spectra, old = arsvd.spectra(chain()), nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, input: -old(self, input))
    with pytest.raises(ValueError, match=r"left dense: 0 \(nn.Linear.forward is replaced in this process\)"):
        arsvd.spectra(chain())
    with pytest.raises(ValueError, match=r"'0' cannot be factorised: nn\.Linear.forward is replaced"):
        arsvd.compress(chain(), spectra, lowest(spectra))


def narrow(model: arsvd.MLP, x: Tensor) -> Tensor:
    return model.linear1(x)[:, :4]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: setattr(m.relu1, "forward", lambda x: 2 * x), id="activation"),
        pytest.param(lambda m: setattr(m, "forward", types.MethodType(narrow, m)), id="forward"),
        pytest.param(lambda m: m.linear2.register_forward_pre_hook(lambda m, a: (a[0] + 1,)), id="hook"),
    ],
)
def test_packs_leave_to_others_what_is_no_plain_chain(change: Callable[[Any], object]) -> None:
    model = arsvd.MLP([12, 16, 4]).eval()
    change(model)
    assert dense_chain(model) is None
    with pytest.raises(ValueError, match="model 0 is no dense MLP"):
        pack_spectra([model])
    spectra = arsvd.spectra(model)
    evaluator = Evaluator(model, spectra, X, Y)
    measure_together([(evaluator, [spectra.dense])])
    assert evaluator.metrics([spectra.dense])[spectra.dense].loss == pytest.approx(loss(model), rel=1e-5)


def test_a_file_is_not_rebuilt_without_the_hooks(tmp_path: Path) -> None:
    model = chain()
    model[1].register_forward_hook(lambda m, a, outputs: -outputs)
    arsvd.save(model, tmp_path / "hooked.safetensors")
    with pytest.raises(ValueError, match="pass into="):
        arsvd.load(tmp_path / "hooked.safetensors")
