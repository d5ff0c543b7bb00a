"""The interface of a training method: its options, and its hooks in the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.options import Option

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.architecture import Architecture
    from arsvd.training.hyperparameters import Hyperparameters
    from arsvd.training.loss import Answers
    from arsvd.training.optimizer import PackAdamW
    from arsvd.training.pack import Parameter
    from arsvd.training.setup import Setup
    from arsvd.training.step import StepInputs


class TrainingMethod:
    """A method that a sweep file can switch on in training. It overrides the hooks that it needs.

    One is built for a whole pack where at least one member has it on, and none where it is off for all.
    Everything has a members dimension, and no operation mixes members: a member trains in a pack as it does
    alone, and one that has the method off trains bit for bit as without it.

    The hooks from `inputs` to `after_step` are part of a step, which is captured in a CUDA graph: tensor
    operations of fixed sizes and places only, no value that the host reads, no condition on a tensor's values
    or on the step's number. They run one method after the other, in the order of the registry.

    A method's module imports torch only in its functions or for its annotations: see `Registry`.

    Attributes:
        name: name in the registry, under which checkpoints keep the method's state.
        options: settings that the sweep file can hold. The first one switches the method on: it is off for a
            member whose value is the option's `absent`.

    Args:
        setup: the training that the method takes part in.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[Option[Any], ...]]

    def __init__(self, setup: Setup) -> None:
        """Keep what the hooks need, above all each member's settings as columns on the device."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return settings with which the method is on, for the contract that every method passes."""
        raise NotImplementedError

    @classmethod
    def on(cls, member: Hyperparameters) -> bool:
        """Tell whether a member has the method switched on."""
        switch = cls.options[0]
        return bool(member[switch.key] != switch.absent)

    @classmethod
    def shares_batches(cls, members: Sequence[Hyperparameters]) -> bool:
        """Tell whether members of one seed may share each batch, which is then gathered once."""
        return True

    @classmethod
    def shapes(cls) -> bool:
        """Tell whether the method changes what layers are made of."""
        return cls.architecture.__func__ is not TrainingMethod.architecture.__func__  # type: ignore[attr-defined]

    # --- before training ---------------------------------------------------------------------------------

    @classmethod
    def architecture(cls, architecture: Architecture, settings: Mapping[str, Any]) -> Architecture:
        """Change the dimensions of a new member's layers; members of one pack must agree in the factors.

        Args:
            architecture: dense architecture, or the one that the previous methods made of it.
            settings: settings of the member, without those that are off.
        """
        return architecture

    def parameters(self, parameters: list[Parameter]) -> list[Parameter]:
        """Change what the optimizer trains: add tensors of the method's own, or exempt weights from decay.

        Args:
            parameters: parameters of the pack, then those of the previous methods.
        """
        return parameters

    # --- around the steps, on the host -------------------------------------------------------------------

    def before_epoch(self, epoch: int) -> Tensor | None:
        """Draw what goes with an epoch's images: (members or 1, samples), in the order shown.

        A step finds its part in `StepInputs.drawn` under the method's name. Called once more where a training
        is resumed within the epoch.

        Args:
            epoch: number of the epoch, from 0.
        """
        return None

    def after_epoch(self, epoch: int, optimizer: PackAdamW) -> None:
        """Change weights, moments or the method's own tensors in place, before they are validated.

        Args:
            epoch: number of the epoch, from 0.
            optimizer: optimizer with its parameters and their moments.
        """

    # --- in each step ------------------------------------------------------------------------------------

    def inputs(self, pixels: Tensor, inputs: StepInputs) -> Tensor:
        """Change a batch's images.

        Args:
            pixels: (rows, channels, height, width) uint8, one row for each number in `inputs.chosen`, in
                order.
            inputs: inputs of the step.
        """
        return pixels

    def effective_weights(self, weights: list[list[Tensor]]) -> list[list[Tensor]]:
        """Change what the inputs are multiplied by; the weights that are trained stay as they are.

        Validation uses the effective weights as well, and at the end of training they replace the pack's.
        Padding must stay zero.

        Args:
            weights: tensors (members, in, out) per layer and factor, see `Pack.weights`.
        """
        return weights

    def hidden(self, x: Tensor, layer: int) -> Tensor:
        """Change a hidden layer's outputs, in training only.

        Args:
            x: (members, batch, width) outputs after the activation.
            layer: number of the layer, from 0.
        """
        return x

    def loss(self, loss: Tensor, answers: Answers, inputs: StepInputs) -> Tensor:
        """Change what the members' answers are compared with.

        Args:
            loss: (members,) in nats: the cross-entropy with the labels, as the previous methods left it.
            answers: logits and labels of the batch.
            inputs: inputs of the step.
        """
        return loss

    def penalty(self) -> Tensor | None:
        """Return a regulariser of the weights to add to the loss: (members,). No curve includes it.

        A norm is taken per member; padding adds nothing to it and gets no gradient.
        """
        return None

    def before_step(
        self, gradients: list[Tensor], parameters: Sequence[Parameter], inputs: StepInputs
    ) -> list[Tensor]:
        """Change the gradients before the optimizer uses them.

        Args:
            gradients: gradient of each parameter.
            parameters: all trained parameters, in the optimizer's order.
            inputs: inputs of the step.
        """
        return gradients

    def after_step(self, inputs: StepInputs) -> None:
        """Change weights or the method's own tensors in place, after the optimizer has moved them."""

    # --- checkpoints -------------------------------------------------------------------------------------

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold, by name; views without padding can be restored as they are.

        Tensors that the optimizer trains (see `parameters`) are kept with their moments in any case.

        Args:
            member: position of the member.
            within_epoch: True if an epoch has begun and not ended.
        """
        return {}

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned.

        Raises:
            ValueError: the state is another method's.
        """
        own = self.state(member, within_epoch=False)
        if {name: tensor.shape for name, tensor in own.items()} != {n: t.shape for n, t in state.items()}:
            raise ValueError(f"{self.name} keeps {sorted(own)}, the state has {sorted(state)}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
