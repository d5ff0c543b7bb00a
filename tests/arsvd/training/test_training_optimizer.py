"""PackAdamW against torch.optim.AdamW, and schedules against torch.optim.lr_scheduler."""

import logging
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from arsvd.training.optimizer import PackAdamW, _has_fused_kernel
from arsvd.training.schedules import SCHEDULES
from arsvd.training.schedules.falling import cosine
from arsvd.training.schedules.one_cycle import END, START, WARM_UP, one_cycle

RATES = (1e-3, 1e-2, 0.3)
DECAYS = (0.0, 0.1, 0.5)


def stacked() -> tuple[list[Tensor], list[Tensor]]:
    weights = [torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 5, 2, dtype=torch.float64)]
    return weights, [torch.randn(3, 1, 5, dtype=torch.float64), torch.randn(3, 1, 2, dtype=torch.float64)]


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestPackAdamW:
    @pytest.mark.parametrize("kernel", ["_cpu_step", "_plain_step"])
    def test_equals_torch_step_by_step(self, kernel: str) -> None:
        weights, biases = stacked()
        members = []
        for m, (lr, decay) in enumerate(zip(RATES, DECAYS, strict=True)):
            own = [torch.nn.Parameter(p[m].clone()) for p in weights + biases]
            groups = [{"params": own[:2], "weight_decay": decay}, {"params": own[2:], "weight_decay": 0.0}]
            members.append((own, torch.optim.AdamW(groups, lr=lr)))
        ours = PackAdamW(weights, biases, column(RATES), column(DECAYS))
        ours._step = getattr(ours, kernel)
        factors = [one_cycle(step / 50) for step in range(50)]
        coefficients = ours.coefficients(factors)
        for step, factor in enumerate(factors):
            gradients = [torch.randn_like(p) * 10 ** (step % 5 - 2) for p in ours.parameters]
            ours.step(gradients, coefficients[step])
            for m, (own, optimizer) in enumerate(members):
                for parameter, gradient in zip(own, gradients, strict=True):
                    parameter.grad = gradient[m].clone()
                for group in optimizer.param_groups:
                    group["lr"] = RATES[m] * factor
                optimizer.step()
                for parameter, stack in zip(own, ours.parameters, strict=True):
                    torch.testing.assert_close(stack[m], parameter.detach(), rtol=1e-12, atol=1e-12)

    def test_gradients_may_lie_in_another_order(self) -> None:
        results = []
        for turned in (False, True):
            torch.manual_seed(4)
            weights, biases = stacked()
            optimizer = PackAdamW(weights, biases, column(RATES), column(DECAYS))
            for coefficients in optimizer.coefficients([1.0] * 3):
                gradients = [torch.randn_like(p) for p in optimizer.parameters]
                optimizer.step([g.mT.contiguous().mT if turned else g for g in gradients], coefficients)
            results.append(optimizer.parameters)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_a_zero_with_a_zero_gradient_stays_zero(self) -> None:
        weights, biases = stacked()
        for parameter in weights + biases:
            parameter[1, :, 1:] = 0
        optimizer = PackAdamW(weights, biases, column(RATES), column(DECAYS))
        for coefficients in optimizer.coefficients([1.0] * 10):
            gradients = [torch.randn_like(p) * (p != 0) for p in optimizer.parameters]
            optimizer.step(gradients, coefficients)
        assert all(not bool(p[1, :, 1:].any()) for p in weights + biases)

    def test_a_broken_gradient_stays_with_its_member(self) -> None:
        results = []
        for broken in (False, True):
            torch.manual_seed(3)
            weights, biases = stacked()
            optimizer = PackAdamW(weights, biases, column(RATES), column(DECAYS))
            for coefficients in optimizer.coefficients([1.0] * 3):
                gradients = [torch.randn_like(p) for p in optimizer.parameters]
                if broken:
                    for gradient in gradients:
                        gradient[1] = torch.nan
                optimizer.step(gradients, coefficients)
            results.append(optimizer.parameters)
        for good, bad in zip(*results, strict=True):
            assert torch.equal(good[[0, 2]], bad[[0, 2]])
            assert torch.isnan(bad[1]).all()


class TestFusedKernel:
    """Whether the kernel works is asked once a device; here the kernel's module is a stand-in."""

    CPU = torch.device("cpu")

    @pytest.fixture(autouse=True)
    def _forgotten(self) -> Iterator[None]:
        _has_fused_kernel.cache_clear()
        yield
        _has_fused_kernel.cache_clear()

    @staticmethod
    def answering(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> list[torch.device]:
        asked: list[torch.device] = []

        def probe(device: torch.device) -> None:
            asked.append(device)
            answer = answers[len(asked) - 1]
            if answer is not None:
                raise answer

        monkeypatch.setitem(sys.modules, "arsvd.training.fused", SimpleNamespace(probe=probe))
        return asked

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
            torch.AcceleratorError("CUDA error: out of memory"),
            RuntimeError("Triton Error [CUDA]: out of memory"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_running_out_of_memory_is_not_cached(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.answering(monkeypatch, error, None)
        with pytest.raises(type(error), match="out of memory"):
            _has_fused_kernel(self.CPU)
        assert _has_fused_kernel(self.CPU)
        assert asked == [self.CPU] * 2

    def test_a_missing_compiler_is_reported_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = self.answering(monkeypatch, RuntimeError("Failed to find C compiler"))
        with caplog.at_level(logging.WARNING):
            assert [_has_fused_kernel(self.CPU) for _ in range(3)] == [False] * 3
        assert asked == [self.CPU]
        assert caplog.text.count("without its fused kernel on cpu: RuntimeError: Failed to find C comp") == 1


def of_torch(kind: str, steps: int) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if kind == "onecycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < steps else None
    return rates


class TestSchedules:
    @pytest.mark.parametrize("steps", [10, 37, 500])
    def test_cosine_equals_torch(self, steps: int) -> None:
        assert [cosine(s / steps) for s in range(steps)] == pytest.approx(
            of_torch("cosine", steps), abs=1e-12
        )

    @pytest.mark.parametrize("steps", [10, 37, 500])
    def test_one_cycle_falls_as_in_torch(self, steps: int) -> None:
        """Torch places its peak one step earlier, and its last step on the end itself: one step apart."""
        theirs = of_torch("onecycle", steps)
        falling = range(math.ceil(WARM_UP * steps), steps)
        assert [one_cycle((s + 1) / steps) for s in falling] == pytest.approx(
            [theirs[s] for s in falling], abs=1e-12
        )

    def test_one_cycle_rises_as_in_torch(self) -> None:
        theirs = of_torch("onecycle", 10_000)
        rising = range(3000)
        assert [one_cycle(s / 10_000) for s in rising] == pytest.approx([theirs[s] for s in rising], abs=1e-3)
        assert one_cycle(0.0) == pytest.approx(theirs[0]) == pytest.approx(START)

    def test_schedules_end_at_their_last_rates(self) -> None:
        assert one_cycle(WARM_UP) == 1.0
        assert one_cycle(1.0) == pytest.approx(START * END)
        assert (cosine(0.0), cosine(1.0)) == (1.0, 0.0)
        assert dict(SCHEDULES.items()) == {"onecycle": one_cycle, "cosine": cosine}

    @pytest.mark.parametrize("name", SCHEDULES.names)
    def test_stays_between_zero_and_the_peak(self, name: str) -> None:
        factors = [SCHEDULES[name](step / 1000) for step in range(1001)]
        assert all(0 <= factor <= 1 for factor in factors)
        assert max(factors) == 1.0
