"""One training step of a whole pack, from inputs of fixed size: forward, loss, gradients, AdamW."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arsvd.training.loss import Answers
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.optimizer import PackAdamW
from arsvd.training.pack import Parameter
from arsvd.training.setup import Setup


@dataclass(frozen=True)
class StepInputs:
    """All that differs from step to step.

    Attributes:
        chosen: (members or 1, batch) sample numbers; 1 where all members see the same images.
        drawn: (members or 1, batch) numbers that methods drew for these images, by the methods' names.
        coefficients: (4,) coefficients of the optimizer, see `PackAdamW.coefficients`.
    """

    chosen: Tensor
    drawn: Mapping[str, Tensor]
    coefficients: Tensor


class TrainingStep:
    """Moves every member once. It never waits for the device, so it can be captured in a CUDA graph.

    Args:
        setup: setup of the training; the pack's weights are changed.
        methods: training methods that are on, in the order of their work.
        half: True if matrix products are made in bfloat16, by autocast.

    Attributes:
        parameters: trained parameters, in the optimizer's order.
        optimizer: AdamW over the parameters.
        losses: (members,) sums over the steps since they were last set to 0, without penalties.
    """

    def __init__(self, setup: Setup, methods: Sequence[TrainingMethod], half: bool = False) -> None:
        self._pack, self._images = setup.pack, setup.images
        self._methods, self._half = methods, half
        parameters = self._pack.own_parameters()
        for method in methods:
            parameters = method.parameters(parameters)
        decayed = [parameter for parameter in parameters if parameter.decayed]
        others = [parameter for parameter in parameters if not parameter.decayed]
        self.parameters: list[Parameter] = decayed + others
        self.losses = torch.zeros_like(self._pack.biases[0][:, 0, 0])
        self.optimizer = PackAdamW(
            [parameter.tensor for parameter in decayed],
            [parameter.tensor for parameter in others],
            self.losses.new_tensor([member.lr for member in setup.members]),
            self.losses.new_tensor([member.weight_decay for member in setup.members]),
        )

    def __call__(self, inputs: StepInputs) -> None:
        """Run the step and add its losses to `losses`."""
        change = functools.partial(self._changed, inputs=inputs)
        batch = self._images.inputs(inputs.chosen, change if self._methods else None, in_place=True)
        with self._precision(batch.device):
            logits = self._pack.forward(batch, self.weights(), self._hidden)
        labels = self._images.labels(inputs.chosen).expand(self._pack.members, -1)
        answers = Answers(logits.to(self.losses.dtype), labels)
        loss = answers.cross_entropy()
        for method in self._methods:
            loss = method.loss(loss, answers, inputs)
        total = loss
        for method in self._methods:
            penalty = method.penalty()
            total = total if penalty is None else total + penalty
        gradients = list(torch.autograd.grad(total.sum(), self.optimizer.parameters))
        with torch.no_grad():
            for method in self._methods:
                gradients = method.before_step(gradients, self.parameters, inputs)
            self.optimizer.step(gradients, inputs.coefficients)
            for method in self._methods:
                method.after_step(inputs)
        self.losses += loss.detach()

    def weights(self) -> list[list[Tensor]]:
        """Return what inputs are multiplied by: the pack's weights, as changed by the methods."""
        weights = self._pack.weights
        for method in self._methods:
            weights = method.effective_weights(weights)
        return weights

    @torch.no_grad()
    def settle(self) -> None:
        """Replace the pack's weights by the effective weights, at the end of training."""
        for factors, effective in zip(self._pack.weights, self.weights(), strict=True):
            for own, used in zip(factors, effective, strict=True):
                if used is not own:
                    own.copy_(used)

    def _changed(self, pixels: Tensor, inputs: StepInputs) -> Tensor:
        for method in self._methods:
            pixels = method.inputs(pixels, inputs)
        return pixels

    def _hidden(self, x: Tensor, layer: int) -> Tensor:
        for method in self._methods:
            x = method.hidden(x, layer)
        return x

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        if not self._half:
            return contextlib.nullcontext()
        # every weight is cast once a step anyway, and a cache would keep casts of a captured step alive
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
