"""The contract of training methods: everything in `CONTRACT` holds for each method and each of its examples.

for name, method in METHODS.items():
    for settings in method.examples():
        for promise in CONTRACT:
            promise(method, settings)
"""

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from arsvd.data import Dataset, Split
from arsvd.data.dataset import describe
from arsvd.options import REQUIRED
from arsvd.training import Hyperparameters, MemberState, Pack, StateError, TrainingResult, train
from arsvd.training.architecture import new_architecture, structure
from arsvd.training.captured import CapturedStep, StaticStep
from arsvd.training.counters import CounterDraws
from arsvd.training.draws import ORDER
from arsvd.training.images import Images
from arsvd.training.methods import METHODS
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.setup import Setup
from arsvd.training.step import StepInputs, TrainingStep

Method = type[TrainingMethod]
Settings = Mapping[str, Any]

WIDTHS = ((9, 6), (4, 7), (6, 3))  # of the hidden layers: each member is padded somewhere
# at other widths a member's numbers lie differently in a CPU's vectors in each pack, and sums round
# differently
ALIGNED = (16, 8)
EPOCHS, BATCH, STEPS = 3, 16, 4
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::bincount")


def declares_itself(method: Method, settings: Settings) -> None:
    """The declarations on the class are complete, and the examples switch the method on."""
    assert METHODS[method.name] is method, f"the registry has another class as {method.name}"
    assert method.options, "the first option switches the method on"
    others = {o.key for name in METHODS if name != method.name for o in METHODS[name].options}
    for option in method.options:
        assert option.key not in others, f"{option.key} is another method's as well"
        assert option.help, f"{option.key} has no help"
        assert option.default is not REQUIRED, f"{option.key} has no default"
        assert option.absent is not REQUIRED, f"{option.key} does not say what its absence means"
        for value in (option.default, option.absent):
            assert option.check(value) == value, f"{option.key} does not take its own {value!r}"
    assert method.on(_member(settings)), f"{settings} leaves {method.name} off"
    assert not method.on(_member({})), f"{method.name} is on without a setting"


def imports_no_torch(method: Method, settings: Settings) -> None:
    """Whoever reads a sweep file asks for the options, and does not wait for torch."""
    code = f"import sys, {method.__module__}; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", f"{method.__module__} imports torch or numpy"


def members_train_as_alone(method: Method, settings: Settings) -> None:
    """In a pack of other widths a member gets the same weights as alone, and padding stays zero."""
    members = [_member(settings, seed) for seed in range(3)]
    pack, result = _trained(members, WIDTHS)
    for position in range(3):
        alone, alone_result = _trained([members[position]], [WIDTHS[position]])
        for stacked, own in _pairs(pack, alone):
            rows, columns = own.shape[1:]
            torch.testing.assert_close(stacked[position, :rows, :columns], own[0], rtol=1e-9, atol=1e-11)
            assert not stacked[position, rows:].any(), "padded rows have moved"
            assert not stacked[position, :, columns:].any(), "padded columns have moved"
        for key, curve in alone_result.curves[0].items():
            found = torch.tensor(result.curves[position][key])
            torch.testing.assert_close(found, torch.tensor(curve), rtol=1e-9, atol=1e-11)


def no_member_touches_a_bit_of_another(method: Method, settings: Settings) -> None:
    """No member changes a bit of another, not even one that diverges."""
    one, diverging, other = (_member(settings, seed, lr) for seed, lr in enumerate((1e-2, 1e30, 3e-3)))
    pack, result = _trained([one, diverging, other], [ALIGNED] * 3, torch.float32)
    without, expected = _trained([one, other], [ALIGNED] * 2, torch.float32)
    for stacked, own in _pairs(pack, without):
        assert torch.equal(stacked[[0, 2]], own), "a member moves otherwise beside one that diverges"
    assert [result.curves[0], result.curves[2]] == expected.curves


def off_is_free(method: Method, settings: Settings) -> None:
    """If it is off for all, nothing is built; if it is off for one in a pack, that one's bits do not differ.

    Where the method changes the shape of layers, members that differ in it do not share a pack.
    """
    switch = method.options[0]
    off = _member({**settings, switch.key: switch.absent}, seed=1)
    setup = _setup([off], WIDTHS[:1])
    assert method not in setup.kinds, f"{method.name} is built though it is off for all"
    on = _member(settings, seed=2)
    if structure(_architecture(WIDTHS[0], on)) != structure(_architecture(WIDTHS[0], off)):
        return
    mixed, result = _trained([off, on], WIDTHS[:2], torch.float32)
    plain, expected = _trained([off, replace(on, settings={})], WIDTHS[:2], torch.float32)
    for one, other in _pairs(mixed, plain):
        assert torch.equal(one[0], other[0]), "a member that has it off moves otherwise"
    assert result.curves[0] == expected.curves[0]


def differs_from_off(method: Method, settings: Settings) -> None:
    """A setting that switches the method on changes the training."""
    on, _ = _trained([_member(settings)], WIDTHS[:1])
    off, _ = _trained([_member({})], WIDTHS[:1])
    same = on.architectures == off.architectures and all(map(torch.equal, on.parameters, off.parameters))
    assert not same, f"{settings} changes nothing"


def penalty_has_its_gradient(method: Method, settings: Settings) -> None:
    """The gradient agrees with finite differences in float64; padding adds nothing and gets no gradient."""
    setup = _setup([_member(settings, seed) for seed in range(3)], WIDTHS)
    methods = setup.methods()
    (own,) = [each for each in methods if isinstance(each, method)]
    parameters = TrainingStep(setup, methods).parameters
    if own.penalty() is None:
        return
    generator = torch.Generator().manual_seed(2)
    for parameter in parameters:  # where they start, a gradient may be 0
        for member, (rows, columns) in enumerate(parameter.shapes):
            noise = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            parameter.tensor[member, :rows, :columns] += noise * 0.1
        parameter.tensor.requires_grad_(True)
    penalty = _penalty(own)
    assert penalty.shape == (3,), "a penalty has one value a member"
    tensors = [parameter.tensor for parameter in parameters]
    gradients = torch.autograd.grad(penalty.sum(), tensors, allow_unused=True)
    step = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            for member, (rows, columns) in enumerate(parameter.shapes):
                numbers = parameter.tensor[member, :rows, :columns]
                found = torch.zeros_like(numbers)
                for place in range(numbers.numel()):
                    row, column = divmod(place, columns)
                    kept, sides = numbers[row, column].clone(), []
                    for moved in (kept + step, kept - step):
                        numbers[row, column] = moved
                        sides.append(_penalty(own))
                    numbers[row, column] = kept
                    slopes = (sides[0] - sides[1]) / (2 * step)
                    found[row, column] = slopes[member]
                    assert slopes.count_nonzero() <= 1, "a member's penalty depends on another member"
                expected = torch.zeros_like(numbers) if gradient is None else gradient[member]
                torch.testing.assert_close(expected[:rows, :columns], found, rtol=1e-5, atol=1e-8)
                assert not expected[rows:].any(), "padded rows get a gradient"
                assert not expected[:, columns:].any(), "padded columns get a gradient"
    for member, widths in enumerate(WIDTHS):
        alone = _setup([_member(settings, member)], [widths])
        methods = alone.methods()
        (unpadded,) = [each for each in methods if isinstance(each, method)]
        for mine, parameter in zip(TrainingStep(alone, methods).parameters, parameters, strict=True):
            rows, columns = mine.shapes[0]
            mine.tensor[0] = parameter.tensor[member, :rows, :columns].detach()
        torch.testing.assert_close(penalty[member].detach(), _penalty(unpadded)[0], rtol=1e-12, atol=0.0)


def goes_on_from_checkpoints(method: Method, settings: Settings) -> None:
    """A training resumed anywhere gives the bits of one that never stopped; others refuse its state."""
    members = [_member(settings, seed) for seed in range(2)]
    states: dict[int, list[MemberState]] = {}
    whole, result = _trained(members, WIDTHS[:2], torch.float32, kept=states)
    assert len(states) == EPOCHS * STEPS
    for steps in (1, STEPS, STEPS + 2, EPOCHS * STEPS):
        again, resumed = _trained(members, WIDTHS[:2], torch.float32, states[steps])
        assert all(torch.equal(one, other) for one, other in _pairs(whole, again)), f"after step {steps}"
        assert resumed.curves == result.curves
    refusal = ""
    try:
        _trained([replace(m, settings={}) for m in members], WIDTHS[:2], torch.float32, states[1])
    except StateError as error:
        refusal = str(error)
    assert method.options[0].key in refusal, "a training without the method takes the state of one with it"


def a_step_waits_for_nothing(method: Method, settings: Settings) -> None:
    """The host reads no value of a step, except those that AdamW reads on a CPU without the method."""
    members = [_member(settings, seed) for seed in range(2)]
    with_it, without = (_operations(each) for each in (members, [replace(m, settings={}) for m in members]))
    for name in WAITING:
        assert with_it[name] == without[name], f"a step makes the host wait: {name}"


def a_step_reads_its_inputs_from_one_place(method: Method, settings: Settings) -> None:
    """A step can be replayed as a CUDA graph does; where there is a device, it runs in a graph."""
    members = [_member(settings, seed) for seed in range(3)]
    for device in ["cpu", "cuda"][: 1 + torch.cuda.is_available()]:
        plain, losses = _stepped(members, lambda step: step, device)
        static, static_losses = _stepped(members, CapturedStep if device == "cuda" else StaticStep, device)
        rtol, atol = (0.0, 0.0) if device == "cpu" else (1e-9, 1e-11)
        torch.testing.assert_close(losses, static_losses, rtol=rtol, atol=atol)
        for one, other in _pairs(plain, static):
            torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


CONTRACT: tuple[Callable[[Method, Settings], None], ...] = (
    declares_itself,
    imports_no_torch,
    members_train_as_alone,
    no_member_touches_a_bit_of_another,
    off_is_free,
    differs_from_off,
    penalty_has_its_gradient,
    goes_on_from_checkpoints,
    a_step_waits_for_nothing,
    a_step_reads_its_inputs_from_one_place,
)


@functools.cache
def _data() -> Dataset:
    """Three classes of small colour images, each class with a bright column of its own."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = torch.randint(0, 90, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
        images[torch.arange(count), :, :, labels] += 150
        return Split(images, labels)

    return describe("contract", ("a", "b", "c"), split(BATCH * STEPS + 5), split(30), split(3))


def _teacher(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 2, len(_data().train), 3, generator=generator).to(dtype)


def _member(settings: Settings, seed: int = 0, lr: float = 1e-2) -> Hyperparameters:
    return Hyperparameters(lr=lr, weight_decay=0.1, seed=seed, settings=settings)


def _architecture(widths: Sequence[int], member: Hyperparameters) -> tuple[tuple[int, ...], ...]:
    return new_architecture([_data().features, *widths, 3], member.settings)


def _setup(
    members: Sequence[Hyperparameters], widths: Sequence[Sequence[int]], dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Setup:  # fmt: skip
    architectures = [_architecture(own, member) for own, member in zip(widths, members, strict=True)]
    data, seeds = _data().to(device), [member.seed for member in members]
    images = Images(data.train.images, data.train.labels, data.mean, data.std, dtype)
    pack = Pack.from_seeds(architectures, seeds, device, dtype)
    return Setup.of(pack, images, members, _teacher(dtype).to(device))


def _trained(
    members: Sequence[Hyperparameters],
    widths: Sequence[Sequence[int]],
    dtype: torch.dtype = torch.float64,
    states: Sequence[MemberState] | None = None,
    kept: dict[int, list[MemberState]] | None = None,
) -> tuple[Pack, TrainingResult]:
    """Train members; each of their states goes through bytes into `kept`, by the number of its step."""
    pack = _setup(members, widths, dtype).pack

    def keep(_: int, state: MemberState) -> None:
        if kept is not None:
            kept.setdefault(state.steps, []).append(MemberState.from_bytes(state.to_bytes()))

    result = train(
        pack,
        _data(),
        members,
        epochs=EPOCHS,
        batch_size=BATCH,
        teacher=_teacher(dtype),
        states=states,
        on_checkpoint=keep,
        checkpoint_every=0.0,
    )
    return pack, result


def _stepped(
    members: Sequence[Hyperparameters],
    kind: Callable[[TrainingStep], Callable[[StepInputs], None]],
    device: str,
    steps: int = STEPS * EPOCHS,
) -> tuple[Pack, Tensor]:
    """Run some steps as training on CUDA does, with hashed random numbers."""
    setup = _setup(members, WIDTHS[: len(members)], device=device)
    seeds = [member.seed for member in members]
    setup = replace(setup, draws=CounterDraws(seeds, torch.float64, torch.device(device)))
    methods = setup.methods()
    step = TrainingStep(setup, methods)
    advance = kind(step)
    order = setup.draws.stream(ORDER).orders(0, len(setup.images))
    drawn = {method.name: method.before_epoch(0) for method in methods}
    coefficients = step.optimizer.coefficients([1.0] * steps)
    for parameter in step.parameters:
        parameter.tensor.requires_grad_(True)
    for number in range(steps):
        shown = slice(number % STEPS * BATCH, (number % STEPS + 1) * BATCH)
        setup.draws.at(number)
        parts = {name: each[:, shown] for name, each in drawn.items() if each is not None}
        advance(StepInputs(order[:, shown], parts, coefficients[number]))
    for parameter in step.parameters:
        parameter.tensor.requires_grad_(False)
    return setup.pack, step.losses


class _Operations(TorchDispatchMode):
    def __init__(self, names: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._names[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def _operations(members: Sequence[Hyperparameters]) -> Counter[str]:
    """Count the operations of two steps; those that come before cancel out."""
    _data()  # built at its first use, which should not be counted
    few: Counter[str] = Counter()
    more: Counter[str] = Counter()
    for steps, names in ((1, few), (3, more)):
        with _Operations(names):
            _stepped(members, lambda step: step, "cpu", steps)
    return more - few


def _pairs(one: Pack, other: Pack) -> list[tuple[Tensor, Tensor]]:
    return list(zip(one.parameters, other.parameters, strict=True))


def _penalty(method: TrainingMethod) -> Tensor:
    penalty = method.penalty()
    assert penalty is not None
    return penalty
