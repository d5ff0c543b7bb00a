"""What a training method is: its options, and its hooks in the training loop."""

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
    """Something that a sweep file can switch on in training. A method overrides the hooks that it needs.

    One is built for a whole pack where it is on for a member at least, and not at all where it is off for
    all. Everything has a members dimension, and no operation mixes members: a member trains in a pack as it
    does alone, and one that has the method off trains bit for bit as without it.

    The hooks from `inputs` to `after_step` are part of a step, which is captured in a CUDA graph: tensor
    operations of fixed sizes and places only, no value that the host reads, no condition on what a tensor
    holds or on the step's number. They run one method after the other, in the order of the registry.

    A module of a method imports torch in its functions, or for its annotations only: see `Registry`.

    Attributes:
        name: the name in the registry, under which checkpoints keep the method's state.
        options: what the sweep file can set. The first one switches the method on: it is off for a member
            whose value is the option's `absent`.

    Args:
        setup: the training that the method takes part in.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[Option[Any], ...]]

    def __init__(self, setup: Setup) -> None:
        """Keep what the hooks need: each member's settings as columns on the device, above all."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return settings with which the method is on, for the contract that every method passes."""
        raise NotImplementedError

    @classmethod
    def on(cls, member: Hyperparameters) -> bool:
        """Tell whether a member has the method on."""
        switch = cls.options[0]
        return bool(member[switch.key] != switch.absent)

    @classmethod
    def shares_batches(cls, members: Sequence[Hyperparameters]) -> bool:
        """Tell whether members of one seed may share each batch, which is gathered once then."""
        return True

    @classmethod
    def shapes(cls) -> bool:
        """Tell whether the method changes what layers are made of."""
        return cls.architecture.__func__ is not TrainingMethod.architecture.__func__  # type: ignore[attr-defined]

    # --- before training ---------------------------------------------------------------------------------

    @classmethod
    def architecture(cls, architecture: Architecture, settings: Mapping[str, Any]) -> Architecture:
        """Change what a new member's layers are made of; members of one pack must agree in the factors.

        Args:
            architecture: dense, or as the methods before have it.
            settings: the member's, without those that are off.
        """
        return architecture

    def parameters(self, parameters: list[Parameter]) -> list[Parameter]:
        """Change what the optimizer trains: add tensors of the method's own, or leave weights undecayed.

        Args:
            parameters: the pack's, then those of the methods before.
        """
        return parameters

    # --- around the steps, on the host -------------------------------------------------------------------

    def before_epoch(self, epoch: int) -> Tensor | None:
        """Draw what goes with an epoch's images: (members or 1, samples), in the order of their showing.

        A step finds its part in `StepInputs.drawn` under the method's name. Called once more where a
        training is resumed within the epoch.

        Args:
            epoch: the epoch's number, from 0.
        """
        return None

    def after_epoch(self, epoch: int, optimizer: PackAdamW) -> None:
        """Change weights, moments or the method's own tensors in place, before they are validated.

        Args:
            epoch: the epoch's number, from 0.
            optimizer: the parameters with their moments.
        """

    # --- in each step ------------------------------------------------------------------------------------

    def inputs(self, pixels: Tensor, inputs: StepInputs) -> Tensor:
        """Change a batch's images.

        Args:
            pixels: (rows, channels, height, width) uint8, the rows those of `inputs.chosen` one after the
                other.
            inputs: the step's.
        """
        return pixels

    def effective_weights(self, weights: list[list[Tensor]]) -> list[list[Tensor]]:
        """Change what the inputs are multiplied with; the weights that are trained stay as they are.

        Validation uses the effective weights as well, and at the end of training they take the place of the
        pack's. Padding must stay zero.

        Args:
            weights: per layer, per factor: (members, in, out), see `Pack.weights`.
        """
        return weights

    def hidden(self, x: Tensor, layer: int) -> Tensor:
        """Change a hidden layer's outputs, in training only.

        Args:
            x: (members, batch, width) after the activation.
            layer: the layer's number, from 0.
        """
        return x

    def loss(self, loss: Tensor, answers: Answers, inputs: StepInputs) -> Tensor:
        """Change what the members' answers are held against.

        Args:
            loss: (members,) in nats: the cross-entropy with the labels, as the methods before have it.
            answers: logits and labels of the batch.
            inputs: the step's.
        """
        return loss

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss for the weights' sake: (members,), in no curve.

        A norm is taken per member, and padding adds nothing to it and gets no gradient.
        """
        return None

    def before_step(
        self, gradients: list[Tensor], parameters: Sequence[Parameter], inputs: StepInputs
    ) -> list[Tensor]:
        """Change the gradients before the optimizer uses them.

        Args:
            gradients: one a parameter.
            parameters: everything that is trained, in the optimizer's order.
            inputs: the step's.
        """
        return gradients

    def after_step(self, inputs: StepInputs) -> None:
        """Change weights or the method's own tensors in place, after the optimizer has moved them."""

    # --- checkpoints -------------------------------------------------------------------------------------

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold, by name; views without padding can be restored as they are.

        Tensors that the optimizer trains (see `parameters`) are kept with their moments in any case.

        Args:
            member: the member's position.
            within_epoch: whether an epoch has begun and not ended.
        """
        return {}

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: the state is another method's.
        """
        own = self.state(member, within_epoch=False)
        if {name: tensor.shape for name, tensor in own.items()} != {n: t.shape for n, t in state.items()}:
            raise ValueError(f"{self.name} keeps {sorted(own)}, the state has {sorted(state)}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
