"""AdamW with one learning rate and one weight decay per member."""

import functools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class PackAdamW:
    """AdamW over stacked parameters of shape (members, …).

    Args:
        decayed: parameters that weight decay shrinks.
        others: parameters that are not decayed.
        lr: (members,) peak learning rates.
        weight_decay: (members,) weight decays.
        betas: decay rates of the two moments.
        eps: number added to the root of the second moment.

    Attributes:
        parameters: decayed parameters, then the others.
        moments: the first and the second moments, each in the order of `parameters`.

    Source:
        Loshchilov and Hutter 2019, with decoupled decay times the learning rate as in torch.optim.AdamW.
    """

    def __init__(
        self,
        decayed: Sequence[Tensor],
        others: Sequence[Tensor],
        lr: Tensor,
        weight_decay: Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters = [*decayed, *others]
        self._decayed = len(decayed)
        self._lr, self._decay = lr, weight_decay
        self._betas, self._eps = betas, eps
        self.moments = (
            [torch.zeros_like(p) for p in self.parameters],
            [torch.zeros_like(p) for p in self.parameters],
        )
        device, dtype = self.parameters[0].device, self.parameters[0].dtype
        self._step = self._plain_step
        if device.type == "cpu":
            self._step = self._cpu_step
            self._rates, self._decays = lr.tolist(), weight_decay.tolist()
        elif device.type == "cuda" and dtype == torch.float32 and _has_fused_kernel(device):
            self._step = self._fused_step

    def coefficients(self, factors: Sequence[float]) -> Tensor:
        """Compute what steps 1, 2, … take besides their gradients, so that the host need not.

        Args:
            factors: share of the peak learning rate at each step, from the schedule.

        Returns:
            (steps, 4) on the parameters' device: the factor; the factor that turns the learning rate into the
            step size; eps with the second moment's bias correction; the number of the step.
        """
        beta1, beta2 = self._betas
        rows = []
        for step, factor in enumerate(factors, start=1):
            correction1 = 1 - beta1**step
            correction2 = (1 - beta2**step) ** 0.5
            # p -= lr/c1 * m / (sqrt(v)/c2 + eps), with c2 moved to the other side of the fraction, which
            # saves a pass over the large tensors
            rows.append((factor, -correction2 / correction1, self._eps * correction2, step))
        return torch.tensor(rows, dtype=torch.float64).to(self._lr)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], coefficients: Tensor) -> None:
        """Update every parameter once, with tensor operations of fixed places and sizes only.

        Args:
            gradients: gradient of each parameter, in the order of `parameters`.
            coefficients: (4,) row of the result of `coefficients`.
        """
        self._step(gradients, coefficients)

    def _plain_step(self, gradients: Sequence[Tensor], coefficients: Tensor) -> None:
        beta1, beta2 = self._betas
        first, second = self.moments
        factor, correction, eps, _ = coefficients.unbind()
        lr = self._lr * factor
        shrink = (1 - lr * self._decay)[:, None, None]
        stride = (lr * correction)[:, None, None]
        torch._foreach_lerp_(first, list(gradients), 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, list(gradients), list(gradients), 1 - beta2)
        for index, parameter in enumerate(self.parameters):
            if index < self._decayed:
                parameter.mul_(shrink)
            scratch = torch.sqrt(second[index]).add_(eps)
            torch.div(first[index], scratch, out=scratch)
            parameter.addcmul_(scratch, stride)

    def _cpu_step(self, gradients: Sequence[Tensor], coefficients: Tensor) -> None:
        """Use the kernel of `torch.optim.AdamW(fused=True)`, member by member: it takes one rate per call.

        It reads and writes each number once. Operation by operation an update takes a CPU three times as
        long.
        """
        factor, step = float(coefficients[0]), coefficients[3]
        # in the parameters' layout: the kernel takes memory as it lies
        gradients = [gradient.contiguous() for gradient in gradients]
        kinds = (
            (slice(0, self._decayed), self._decays),
            (slice(self._decayed, None), [0.0] * len(self._rates)),
        )
        for member, rate in enumerate(self._rates):
            for part, decays in kinds:
                parameters = [parameter[member] for parameter in self.parameters[part]]
                torch._fused_adamw_(
                    parameters,
                    [gradient[member] for gradient in gradients[part]],
                    [moment[member] for moment in self.moments[0][part]],
                    [moment[member] for moment in self.moments[1][part]],
                    [],
                    [step] * len(parameters),
                    lr=float(rate) * factor,
                    beta1=self._betas[0],
                    beta2=self._betas[1],
                    weight_decay=float(decays[member]),
                    eps=self._eps,
                    amsgrad=False,
                    maximize=False,
                )

    def _fused_step(self, gradients: Sequence[Tensor], coefficients: Tensor) -> None:
        from arsvd.training.fused import adamw

        none = torch.zeros_like(self._decay)
        numbers = zip(self.parameters, gradients, *self.moments, strict=True)
        for index, (parameter, gradient, first, second) in enumerate(numbers):
            decay = self._decay if index < self._decayed else none
            adamw(parameter, gradient, first, second, self._lr, decay, coefficients, self._betas)


@functools.cache
def _has_fused_kernel(device: torch.device) -> bool:
    """Tell whether Triton is there and compiles for the device; without it updates only take longer.

    Raises:
        Exception: the device is out of memory. That passes, so it is not cached: the next call tries again.
    """
    try:
        from arsvd.training.fused import probe

        probe(device)
    except Exception as error:
        # torch has two classes for it and Triton raises a RuntimeError: only the text is common to them
        if "out of memory" in str(error):
            raise
        log.warning("AdamW runs without its fused kernel on %s: %s: %s", device, type(error).__name__, error)
        return False
    return True
