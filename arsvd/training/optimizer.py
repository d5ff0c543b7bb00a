"""AdamW with one learning rate and one weight decay per member."""

from collections.abc import Sequence

import torch
from torch import Tensor


class PackAdamW:
    """AdamW over stacked parameters of shape (members, …).

    Args:
        decayed: parameters that weight decay shrinks.
        others: parameters that it leaves alone.
        lr: (members,) peak learning rates.
        weight_decay: (members,).
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.

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
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._scratch = [torch.empty_like(p) for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Move every parameter once.

        Args:
            gradients: one a parameter, in the order of `parameters`.
            factor: the schedule's share of the peak learning rate.
        """
        self._steps += 1
        beta1, beta2 = self._betas
        correction1 = 1 - beta1**self._steps
        correction2 = (1 - beta2**self._steps) ** 0.5
        lr = self._lr * factor
        shrink = (1 - lr * self._decay)[:, None, None]
        # p -= lr/c1 * m / (sqrt(v)/c2 + eps), with c2 moved to the other side of the fraction so that the
        # large tensors are passed over once less
        stride = (lr * (-correction2 / correction1))[:, None, None]
        torch._foreach_lerp_(self._first, list(gradients), 1 - beta1)
        torch._foreach_mul_(self._second, beta2)
        torch._foreach_addcmul_(self._second, list(gradients), list(gradients), 1 - beta2)
        for index, parameter in enumerate(self.parameters):
            if index < self._decayed:
                parameter.mul_(shrink)
            scratch = torch.sqrt(self._second[index], out=self._scratch[index])
            scratch.add_(self._eps * correction2)
            torch.div(self._first[index], scratch, out=scratch)
            parameter.addcmul_(scratch, stride)
