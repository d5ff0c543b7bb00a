"""The pack's loss against torch's, member by member."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arsvd.training.loss import pack_loss

MEMBERS, BATCH, CLASSES = 4, 9, 5
SMOOTHING = (0.0, 0.1, 0.5, 0.99)
SHARES = (0.0, 0.3, 0.7, 1.0)
TEMPERATURES = (1.0, 2.0, 0.5, 4.0)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(MEMBERS, BATCH, CLASSES, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(0, CLASSES, (MEMBERS, BATCH)), torch.randn(MEMBERS, BATCH, CLASSES).double()


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


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
    losses = pack_loss(logits, labels, column(SMOOTHING))
    expected = torch.stack(
        [F.cross_entropy(logits[m], labels[m], label_smoothing=SMOOTHING[m]) for m in range(MEMBERS)]
    )
    torch.testing.assert_close(losses, expected)
    ours, theirs = (torch.autograd.grad(x.sum(), logits)[0] for x in (losses, expected))
    torch.testing.assert_close(ours, theirs)


def test_distillation_has_the_gradient_of_the_kl_divergence() -> None:
    logits, labels, teacher = drawn()
    losses = pack_loss(logits, labels, column(SMOOTHING), teacher, column(SHARES), column(TEMPERATURES))
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


@pytest.mark.parametrize("missing", ["teacher", "distillation", "temperature"])
def test_without_a_teacher_labels_alone_count(missing: str) -> None:
    logits, labels, teacher = drawn()
    given = {"teacher": teacher, "distillation": column(SHARES), "temperature": column(TEMPERATURES)}
    given[missing] = None  # type: ignore[assignment]
    plain = pack_loss(logits, labels, column(SMOOTHING))
    assert torch.equal(pack_loss(logits, labels, column(SMOOTHING), **given), plain)


def test_a_member_does_not_see_the_others() -> None:
    logits, labels, teacher = drawn()
    columns = (column(SMOOTHING), teacher, column(SHARES), column(TEMPERATURES))
    together = pack_loss(logits, labels, *columns)
    broken = logits.detach().clone()
    broken[0] = torch.nan
    losses = pack_loss(broken, labels, *columns)
    assert torch.equal(losses[1:], together[1:])
    assert torch.isnan(losses[0])
