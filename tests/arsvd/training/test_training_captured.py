"""What is captured on CUDA, done step by step on the CPU; and the graph itself where there is a device."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from arsvd.data import Dataset
from arsvd.training import Hyperparameters, Pack, dense_architecture, train
from arsvd.training.captured import WARM_UP, CapturedStep, StaticStep, _side_stream
from arsvd.training.counters import CounterDraws
from arsvd.training.draws import ORDER
from arsvd.training.images import Images
from arsvd.training.precision import matrix_products
from arsvd.training.schedules.one_cycle import one_cycle
from arsvd.training.setup import Setup
from arsvd.training.step import StepInputs, TrainingStep

FLIP = {"training.flip": True}
MEMBERS = (
    Hyperparameters(lr=3e-3, seed=1, weight_decay=0.1, settings={**FLIP, "model.dropout": 0.3}),
    Hyperparameters(
        lr=1e-2,
        seed=2,
        settings={**FLIP, "training.label_smoothing": 0.1, "compression.distillation.weight": 0.4},
    ),
    Hyperparameters(lr=2e-3, seed=3, settings={**FLIP, "model.dropout": 0.1}),
)
WIDTHS, BATCH, STEPS = ((24, 16), (8, 30), (40, 5)), 64, 12
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    ),
]


def steps_of(digits: Dataset, device: str, kind: str, half: bool = False) -> tuple[Pack, Tensor]:
    """Do some steps the way training on CUDA does, through one kind of step."""
    data = digits.to(device)
    architectures = [dense_architecture([64, *widths, 10]) for widths in WIDTHS]
    pack = Pack.from_seeds(architectures, [m.seed for m in MEMBERS], device)
    images = Images(data.train.images, data.train.labels, data.mean, data.std)
    teacher = torch.randn(1, 2, len(images), 10, generator=torch.Generator().manual_seed(1)).to(device)
    draws = CounterDraws([m.seed for m in MEMBERS], torch.float32, torch.device(device))
    setup = dataclasses.replace(Setup.of(pack, images, MEMBERS, teacher), draws=draws)
    methods = setup.methods()
    step = TrainingStep(setup, methods, half)
    advance = {"plain": lambda s: s, "static": StaticStep, "captured": CapturedStep}[kind](step)
    coefficients = step.optimizer.coefficients([one_cycle(number / STEPS) for number in range(STEPS)])
    order = draws.stream(ORDER).orders(0, len(images))
    drawn = {method.name: each for method in methods if (each := method.before_epoch(0)) is not None}
    assert list(drawn) == ["flips"]
    for parameter in pack.parameters:
        parameter.requires_grad_(True)
    for number in range(STEPS):
        part = slice(number * BATCH, (number + 1) * BATCH)
        draws.at(number)
        mine = {name: each[:, part] for name, each in drawn.items()}
        advance(StepInputs(order[:, part], mine, coefficients[number]))
    for parameter in pack.parameters:
        parameter.requires_grad_(False)
    return pack, step.losses


@pytest.mark.parametrize("device", DEVICES)
def test_static_inputs_change_nothing(digits: Dataset, device: str) -> None:
    """A captured step reads its inputs from one place: whatever it would read elsewhere stays as it was."""
    plain, losses = steps_of(digits, device, "plain")
    static, static_losses = steps_of(digits, device, "static")
    assert torch.equal(losses, static_losses)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters, static.parameters, strict=True))


@pytest.mark.parametrize("device", DEVICES[1:])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_replayed_graph_equals_its_steps(digits: Dataset, device: str, half: bool) -> None:
    plain, losses = steps_of(digits, device, "plain", half)
    captured, captured_losses = steps_of(digits, device, "captured", half)
    torch.testing.assert_close(losses, captured_losses, rtol=1e-4, atol=1e-5)
    for one, other in zip(plain.parameters, captured.parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


class Cuda:
    """What `CapturedStep` uses of `torch.cuda`, without a device: notes each call with the current stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = "main"
        self.made: list[str] = []
        self.noted: list[tuple[str, str]] = []
        for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def Stream(self, device: torch.device) -> SimpleNamespace:  # noqa: N802
        self.made.append(f"side {len(self.made)} of {device}")
        return SimpleNamespace(
            name=self.made[-1], wait_stream=lambda other: self.note(f"side waits for {other.name}")
        )

    def current_stream(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.current, wait_stream=lambda _: self.note("main waits for side"))

    def CUDAGraph(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.note("replay"))

    @contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: SimpleNamespace, stream: SimpleNamespace) -> Iterator[None]:
        before, self.current = self.current, stream.name
        self.note("capture")
        yield
        self.current = before  # not after an error: as torch where the capture cannot be ended

    def note(self, call: str) -> None:
        self.noted.append((self.current, call))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    _side_stream.cache_clear()
    yield Cuda(monkeypatch)
    _side_stream.cache_clear()


class Noted:
    """A step that notes that it is done, and fails where it is told to."""

    losses = torch.zeros(1)

    def __init__(self, cuda: Cuda, fails: int | None = None) -> None:
        self.cuda, self.left = cuda, fails

    def __call__(self, inputs: StepInputs) -> None:
        if self.left == 0:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.left = None if self.left is None else self.left - 1
        self.cuda.note("step")


INPUTS = StepInputs(torch.zeros(1, 1, dtype=torch.int64), {}, torch.zeros(3))


def test_all_trainings_prepare_and_capture_on_one_stream(cuda: Cuda) -> None:
    for _ in range(2):
        advance = CapturedStep(Noted(cuda))  # type: ignore[arg-type]
        for _ in range(WARM_UP + 3):
            advance(INPUTS)
    side = "side 0 of cpu"
    assert cuda.made == [side]
    prepared = [("main", "side waits for main"), (side, "step"), ("main", "main waits for side")]
    captured = [(side, "capture"), (side, "step")]
    assert cuda.noted == (prepared * WARM_UP + captured + [("main", "replay")] * 3) * 2


def test_a_capture_that_fails_leaves_the_stream_as_it_was(cuda: Cuda) -> None:
    advance = CapturedStep(Noted(cuda, fails=WARM_UP))  # type: ignore[arg-type]
    for _ in range(WARM_UP):
        advance(INPUTS)
    with pytest.raises(RuntimeError, match="during capture"):
        advance(INPUTS)
    assert cuda.noted[-1] == ("side 0 of cpu", "capture")
    assert cuda.current == "main"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no second CUDA device")
def test_training_goes_to_the_packs_device_whichever_is_current(digits: Dataset) -> None:
    pack = Pack.from_seeds([dense_architecture([64, 64, 10])], [0], "cuda:1")
    result = train(pack, digits.to("cuda:1"), [Hyperparameters(lr=1e-2)], epochs=8, batch_size=32)
    assert result.curves[0]["validation_accuracy"][-1] > 0.93
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize(
    ("precision", "device", "inside"),
    [
        ("float32", "cpu", "highest"),
        ("bfloat16", "cpu", "highest"),
        ("float32", "cuda", "highest"),
        ("tf32", "cuda", "high"),
        ("bfloat16", "cuda", "high"),  # for validation, which autocast does not cover
    ],
)
def test_float32_products_round_as_tf32_on_cuda_only(precision: str, device: str, inside: str) -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    with matrix_products(precision, torch.device(device)):
        assert torch.get_float32_matmul_precision() == inside
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_stays_close(digits: Dataset, device: str) -> None:
    _, losses = steps_of(digits, device, "plain")
    _, rounded = steps_of(digits, device, "plain", half=True)
    assert not torch.equal(losses, rounded)
    torch.testing.assert_close(losses, rounded, rtol=0.02, atol=0.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_digits_are_learned_at_every_precision(digits: Dataset, device: str, precision: str) -> None:
    pack = Pack.from_seeds([dense_architecture([64, 64, 10])] * 2, [0, 1], device)
    members = [Hyperparameters(lr=1e-2, seed=seed, settings={"model.dropout": 0.1}) for seed in (0, 1)]
    before = torch.get_float32_matmul_precision()
    if (device, precision) == ("cpu", "tf32"):
        with pytest.raises(ValueError, match="tf32 exists on CUDA devices only, the pack is on cpu"):
            train(pack, digits, members, epochs=1, batch_size=64, precision=precision)
        return
    result = train(pack, digits.to(device), members, epochs=8, batch_size=32, precision=precision)
    assert all(curves["validation_accuracy"][-1] > 0.93 for curves in result.curves)
    assert torch.get_float32_matmul_precision() == before
    assert all(parameter.dtype == torch.float32 for parameter in pack.parameters)


def test_an_unknown_precision_is_refused(digits: Dataset) -> None:
    pack = Pack.from_seeds([dense_architecture([64, 8, 10])], [0])
    with pytest.raises(ValueError, match="unknown precision 'fp8'; there are"):
        train(pack, digits, [Hyperparameters(lr=1e-3)], epochs=1, batch_size=64, precision="fp8")
