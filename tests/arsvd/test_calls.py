"""Models whose call is more than their classes' forward: what is told of them is what they do when called."""

import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import arsvd
from arsvd import Plan, Ranks, Spectra
from arsvd.evaluation.evaluator import Evaluator
from arsvd.refit import refit

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(3))
Y = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(4))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(12, 16), nn.Linear(16, 14), nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class ByKeyword(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=torch.relu(self.second(input=torch.relu(self.first(input=x)))))


class ReadingAttribute(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first.scale = -3.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * getattr(self.first, "scale", 1.0))


class Hooking(Net):
    """Registers a method of its own as a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(-2.0))
        self.first.register_forward_hook(self.hook)

    def hook(self, module: nn.Module, arguments: Any, outputs: Tensor) -> Tensor:
        return outputs * self.factor


class Listing(Net):
    """Reaches a layer past the module tree."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = [self.first]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.listed[0](x)))))


class Asking(Net):
    """Asks what kind of layer it has."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if isinstance(self.first, nn.Linear) else x)


class Called(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return -3 * super().__call__(x)


class Implemented(nn.Sequential):
    def _call_impl(self, *arguments: Any, **keywords: Any) -> Any:
        return -3 * super()._call_impl(*arguments, **keywords)


class Scaling:
    """A hook that is an object."""

    factor = -2.0

    def __call__(self, module: nn.Module, arguments: Any, outputs: Tensor) -> Tensor:
        return outputs * self.factor


def negate(module: nn.Module, arguments: Any, outputs: Tensor) -> Tensor:
    return -2 * outputs


def clamped(module: nn.Module, arguments: Any) -> None:
    module.weight.data.clamp_(-0.1, 0.1)


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 14), nn.ReLU()), nn.Linear(14, 4)
    )


def changed(model: nn.Module, change: Callable[[Any], object]) -> nn.Module:
    change(model)
    return model


def methodical(module: nn.Module, function: Callable[..., Any]) -> None:
    module.forward = types.MethodType(function, module)


def around(module: nn.Module) -> None:
    """Patch a module as accelerate does."""
    module.old_forward = module.forward
    module.forward = partial(lambda own, x: -3 * own.old_forward(x), module)


# name: makes a model, and the layers that stay dense with a part of the reason
KEPT: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "nothing": (Net, {}),
    "forward hook": (lambda: changed(Net(), lambda m: m.first.register_forward_hook(negate)), {}),
    "forward hook in a chain": (lambda: changed(chain(), lambda m: m[0].register_forward_hook(negate)), {}),
    "forward hook on a container": (
        lambda: changed(chain(), lambda m: m[2].register_forward_hook(negate)),
        {},
    ),
    "forward hook on an activation": (
        lambda: changed(chain(), lambda m: m[1].register_forward_hook(negate)),
        {},
    ),
    "forward hook on an MLP": (
        lambda: changed(arsvd.MLP([12, 16, 4]), lambda m: m.linear1.register_forward_hook(negate)),
        {},
    ),
    "forward hook on the root": (
        lambda: changed(nn.Linear(12, 6), lambda m: m.register_forward_hook(negate)),
        {},
    ),
    "hook that is an object": (lambda: changed(Net(), lambda m: m.head.register_forward_hook(Scaling())), {}),
    "hook that is a method": (Hooking, {}),
    "hook that is a partial": (
        lambda: changed(Net(), lambda m: m.head.register_forward_hook(partial(lambda k, m, a, o: k * o, -2))),
        {},
    ),
    "pre-hook": (
        lambda: changed(chain(), lambda m: m[3].register_forward_pre_hook(lambda m, a: (a[0] + 1,))),
        {},
    ),
    "pre-hook with keywords": (
        lambda: changed(
            ByKeyword(),
            lambda m: m.second.register_forward_pre_hook(
                lambda m, a, k: (a, {"input": k["input"] - 1}), with_kwargs=True
            ),
        ),
        {},
    ),
    "backward hook": (
        lambda: changed(chain(), lambda m: m[0].register_full_backward_hook(lambda m, i, o: None)),
        {},
    ),
    "called by keyword": (ByKeyword, {}),
    "attribute": (ReadingAttribute, {}),
    "attribute of a low-rank layer's name": (
        lambda: changed(Net(), lambda m: setattr(m.first, "rank", 3)),
        {"first": "its attribute rank has a name"},
    ),
    "hook that reads the bias": (
        lambda: changed(Net(), lambda m: m.first.register_forward_hook(lambda m, a, o: o - m.bias)),
        {"first": "its hook <lambda> reads or changes its weight or bias"},
    ),
    "hook that changes the weight": (
        lambda: changed(Net(), lambda m: m.first.register_forward_pre_hook(clamped)),
        {"first": "its hook clamped reads or changes its weight or bias"},
    ),
    "class with __call__": (lambda: changed(chain(), lambda m: m.__setitem__(2, Called(*m[2]))), {}),
    "class with _call_impl": (lambda: changed(chain(), lambda m: m.__setitem__(2, Implemented(*m[2]))), {}),
    "layer whose forward is a method": (
        lambda: changed(
            Net(), lambda m: methodical(m.first, lambda own, x: -F.linear(x, own.weight, own.bias))
        ),
        {"first": "its forward is set on the instance"},
    ),
    "layer whose forward is a partial": (
        lambda: changed(Net(), lambda m: around(m.first)),
        {"first": "its forward is set on the instance"},
    ),
    "model whose forward is a method": (
        lambda: changed(Net(), lambda m: methodical(m, lambda own, x: own.head(own.second(own.first(x))))),
        {},
    ),
    "model whose forward is a partial": (lambda: changed(Net(), around), {}),
    "pruned weight": (
        lambda: changed(Net(), lambda m: prune.l1_unstructured(m.first, "weight", 0.5)),
        {"first": "its weight is computed by a hook"},
    ),
    "pruned bias": (
        lambda: changed(Net(), lambda m: prune.l1_unstructured(m.first, "bias", 0.5)),
        {"first": "it holds bias_orig, bias_mask beside"},
    ),
    "parametrisation": (
        lambda: changed(Net(), lambda m: parametrizations.weight_norm(m.first)),
        {"first": "its weight or bias is computed by a parametrisation"},
    ),
    "old spectral norm": (
        lambda: changed(Net(), lambda m: nn.utils.spectral_norm(m.first)(X)),
        {"first": "its weight is computed by a hook"},
    ),
    "injected parameter": (
        lambda: changed(Net(), lambda m: setattr(m.first, "lora_a", nn.Parameter(torch.ones(2)))),
        {"first": "it holds lora_a beside"},
    ),
    "injected module": (
        lambda: changed(Net(), lambda m: setattr(m.first, "adapter", nn.ReLU())),
        {"first": "it holds adapter beside"},
    ),
}


def closed(module: nn.Module, name: str = "forward") -> None:
    """Replace a module's method by a function that holds on to the old one."""
    old = getattr(module, name)
    setattr(module, name, lambda x: -3 * old(x))


def hooked_to(layer: nn.Module, other: nn.Module) -> None:
    layer.register_forward_hook(lambda m, a, outputs: other(outputs))


def elsewhere(model: nn.Module) -> None:
    model.forward = Net().forward


HOLDING = "goes on using .* of the original: the {} holds on to a part of the original. Make it a method"
# name: makes a model, and what is said where inputs show that a copy is not its own
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "layer whose forward is a closure": (
        lambda: changed(Net(), lambda m: closed(m.first)),
        HOLDING.format("forward of module 'first'"),
    ),
    "model whose forward is a closure": (
        lambda: changed(Net(), closed),
        HOLDING.format("forward of the model"),
    ),
    "MLP whose forward is a closure": (
        lambda: changed(arsvd.MLP([12, 16, 4]), closed),
        HOLDING.format("forward of the model"),
    ),
    "part whose forward is a closure": (
        lambda: changed(chain(), lambda m: closed(m[2])),
        HOLDING.format("forward of module '2'"),
    ),
    "model whose _call_impl is a closure": (
        lambda: changed(Net(), lambda m: closed(m, "_call_impl")),
        HOLDING.format("_call_impl of the model"),
    ),
    "hook on to another layer": (
        lambda: changed(Net(), lambda m: hooked_to(m.head, m.add_module("more", nn.Linear(4, 4)) or m.more)),
        HOLDING.format("hook <lambda> of module 'head'"),
    ),
    "model whose forward is another's": (
        lambda: changed(Net(), elsewhere),
        "uses none of its layers|no layer ran",
    ),
    "layer beside the tree": (
        Listing,
        "'first'.* run in Listing, .* the listed of the model holds on to a layer",
    ),
    "model that asks for the kind": (Asking, "Asking with its layers replaced gives other outputs"),
}


@pytest.fixture(params=[None, X], ids=["weight", "activation"])
def calibration(request: pytest.FixtureRequest) -> Tensor | None:
    return request.param


def at(spectra: Spectra, ranks: tuple[int | None, ...]) -> Plan:
    """Plan ranks as they are, at break-even and above as well."""
    plan = arsvd.plan(spectra, Ranks(spectra.dense))
    return replace(plan, layers=tuple(replace(p, rank=r) for p, r in zip(plan.layers, ranks, strict=True)))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(X)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_told_is_what_the_model_does(name: str, calibration: Tensor | None) -> None:
    make, dense = KEPT[name]
    model = make().eval()
    own = outputs(model)
    labels = Y % own.shape[1]
    spectra = arsvd.spectra(model, calibration)
    assert spectra.coverage is not None
    skipped = dict(spectra.coverage.skipped)
    assert list(skipped) == list(dense)
    assert all(reason in skipped[layer] for layer, reason in dense.items())
    full, one = tuple(s.largest for s in spectra), (1,) * len(spectra)
    measured = Evaluator(model, spectra, X, labels).metrics([full, one, spectra.dense])
    assert measured[spectra.dense].loss == pytest.approx(arsvd.evaluate(model, X, labels).loss, rel=1e-5)
    for ranks in (full, one):
        small = arsvd.compress(model, spectra, at(spectra, ranks))
        told = measured[ranks].loss
        assert told == pytest.approx(arsvd.evaluate(small, X, labels).loss, rel=1e-5)
        assert told == pytest.approx(F.cross_entropy(outputs(small), labels).item(), rel=1e-5)
        if ranks == full:
            torch.testing.assert_close(outputs(small), own, rtol=1e-4, atol=1e-4)
        else:
            assert not torch.allclose(outputs(small), own, rtol=1e-3, atol=1e-3)
        assert {n for n, m in small.named_modules() if isinstance(m, arsvd.LowRankLinear)} == {
            s.name for s in spectra
        }
    torch.testing.assert_close(outputs(model), own, rtol=0, atol=0)


@pytest.mark.parametrize("name", KEPT)
def test_refitting_and_files_keep_it_as_well(name: str, tmp_path: Path) -> None:
    make, _ = KEPT[name]
    model = make().eval()
    own = outputs(model)
    spectra = arsvd.spectra(model, X)
    plan = at(spectra, tuple(s.largest for s in spectra))
    torch.testing.assert_close(outputs(refit(model, spectra, plan, X)), own, rtol=2e-2, atol=2e-2)
    small = arsvd.compress(model, spectra, plan)
    arsvd.save(small, tmp_path / "small.safetensors")
    if name == "forward hook on the root":
        return  # the file is of one low-rank layer, which goes into no model
    loaded = arsvd.load(tmp_path / "small.safetensors", into=make().eval())
    torch.testing.assert_close(outputs(loaded), own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    model = make().eval()
    own = outputs(model)
    spectra = arsvd.spectra(model)
    ranks = (1,) * len(spectra)
    with pytest.raises(ValueError, match=message):
        Evaluator(model, spectra, X, Y).metrics([ranks])
    with pytest.raises(ValueError, match=message):
        arsvd.front(model, spectra, (X, Y), rules=[Ranks(ranks)])
    with pytest.raises(ValueError, match=message):
        arsvd.compress(model, spectra, at(spectra, ranks), example=X[:3])
    with pytest.raises(ValueError, match=message):  # here the calibration inputs are at hand
        arsvd.compress(model, *(lambda s: (s, at(s, (1,) * len(s))))(arsvd.spectra(model, X)))
    if name != "model that asks for the kind":  # its class does, which nothing but a run can show
        with pytest.raises(ValueError, match=r"so a copy of .* may go on without its new layers"):
            arsvd.compress(model, spectra, at(spectra, ranks))
    torch.testing.assert_close(outputs(model), own, rtol=0, atol=0)


def test_inputs_that_the_model_does_not_take(calibration: Tensor | None) -> None:
    spectra = arsvd.spectra(Net(), calibration)
    plan = at(spectra, (1, 1, 1))
    # the model is of another dtype since: what was kept of the calibration is of no use then, and not needed
    assert arsvd.compress(Net().double(), spectra, plan)(X.double()).dtype == torch.float64
    with pytest.raises(ValueError, match=r"the model does not take inputs of shape \(40, 5\) and"):
        arsvd.compress(Net(), spectra, plan, example=X[:, :5])


def test_a_copy_that_fails_is_not_handed_out() -> None:
    class Reading(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.first._parameters["weight"].sign().sum())

    model = Reading()
    spectra = arsvd.spectra(model)
    with pytest.raises(ValueError, match=r"its layers replaced fails where the model runs: KeyError"):
        arsvd.compress(model, spectra, at(spectra, (1, 1, 1)), example=X)


def test_a_model_that_cannot_be_copied_is_refused_in_words() -> None:
    model = Net()
    model.generator = (number for number in range(3))
    spectra = arsvd.spectra(model)
    with pytest.raises(ValueError, match="Net cannot be copied: cannot pickle 'generator' object"):
        arsvd.compress(model, spectra, at(spectra, (1, 1, 1)))
