"""The pack's loss against torch's, member by member."""

import torch
import torch.nn.functional as F
from torch import Tensor

from arsvd.training import Hyperparameters, Pack, dense_architecture
from arsvd.training.images import Images
from arsvd.training.loss import Answers
from arsvd.training.setup import Setup
from arsvd.training.step import StepInputs

MEMBERS, BATCH, CLASSES = 4, 9, 5
SMOOTHING = (0.0, 0.1, 0.5, 0.99)
SHARES = (0.0, 0.3, 0.7, 1.0)
TEMPERATURES = (1.0, 2.0, 0.5, 4.0)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(MEMBERS, BATCH, CLASSES, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(0, CLASSES, (MEMBERS, BATCH)), torch.randn(MEMBERS, BATCH, CLASSES).double()


def losses_of(
    logits: Tensor, labels: Tensor, teacher: Tensor | None = None, smoothing: tuple[float, ...] = SMOOTHING
) -> Tensor:
    """The members' losses as a step makes them; they distil where there is a teacher."""
    shares = (0.0,) * MEMBERS if teacher is None else SHARES
    members = [
        Hyperparameters(
            1e-3,
            settings={
                "training.label_smoothing": smoothing[m],
                "compression.distillation.weight": shares[m],
                "compression.distillation.temperature": TEMPERATURES[m],
            },
        )
        for m in range(MEMBERS)
    ]
    pack = Pack.from_seeds([dense_architecture([4, CLASSES])] * MEMBERS, range(MEMBERS), dtype=torch.float64)
    images = Images(torch.zeros(BATCH, 1, 2, 2, dtype=torch.uint8), labels[0], [0.0], [1.0])
    setup = Setup.of(pack, images, members, None if teacher is None else teacher[:, None])
    answers = Answers(logits, labels)
    loss = answers.cross_entropy()
    for method in setup.methods():
        loss = method.loss(loss, answers, StepInputs(torch.arange(BATCH)[None], {}, torch.zeros(4)))
    return loss


def hinton(
    logits: Tensor, labels: Tensor, smoothing: float, teacher: Tensor, share: float, t: float
) -> Tensor:
    """(1 - share) CE + share T^2 KL(teacher at T || member at T), as one writes it down."""
    hard = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    target = F.softmax(teacher / t, dim=-1)
    soft = F.kl_div(F.log_softmax(logits / t, dim=-1), target, reduction="batchmean")
    return (1 - share) * hard + share * t**2 * soft


def test_label_smoothing_is_that_of_torch() -> None:
    logits, labels, _ = drawn()
    losses = losses_of(logits, labels)
    expected = torch.stack(
        [F.cross_entropy(logits[m], labels[m], label_smoothing=SMOOTHING[m]) for m in range(MEMBERS)]
    )
    torch.testing.assert_close(losses, expected)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (losses, expected))
    torch.testing.assert_close(ours, theirs)


def test_distillation_has_the_gradient_of_the_kl_divergence() -> None:
    logits, labels, teacher = drawn()
    losses = losses_of(logits, labels, teacher)
    expected = torch.stack(
        [
            hinton(logits[m], labels[m], SMOOTHING[m], teacher[m], SHARES[m], TEMPERATURES[m])
            for m in range(MEMBERS)
        ]
    )
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (losses, expected))
    torch.testing.assert_close(ours, theirs)
    for m in range(MEMBERS):  # the values differ by the entropy of the teacher
        p = F.softmax(teacher[m] / TEMPERATURES[m], dim=-1)
        entropy = -(p * p.log()).sum(-1).mean() * SHARES[m] * TEMPERATURES[m] ** 2
        torch.testing.assert_close(losses[m], expected[m] + entropy)


def test_without_methods_labels_alone_count() -> None:
    logits, labels, _ = drawn()
    expected = torch.stack([F.cross_entropy(logits[m], labels[m]) for m in range(MEMBERS)])
    torch.testing.assert_close(losses_of(logits, labels, smoothing=(0.0,) * MEMBERS), expected)


def test_a_member_does_not_see_the_others() -> None:
    logits, labels, teacher = drawn()
    together = losses_of(logits, labels, teacher)
    broken = logits.detach().clone()
    broken[0] = torch.nan
    losses = losses_of(broken, labels, teacher)
    assert torch.equal(losses[1:], together[1:])
    assert torch.isnan(losses[0])
