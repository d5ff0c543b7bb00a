"""The update of AdamW as one CUDA kernel: each number is read once and written once.

Done operation by operation, an update reads or writes 20 numbers per parameter; here it is 7, and with
hundreds of members no other part of a step moves as many. Needs Triton, which comes with torch's CUDA builds
for Linux.
"""

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

_BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator,misc,unused-ignore]
def _kernel(  # type: ignore[no-untyped-def]
    parameter, gradient, first, second, lr, decay, coefficients, numbers, rest1, beta2, BLOCK: tl.constexpr
):
    member = tl.program_id(1)
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < numbers
    places = member.to(tl.int64) * numbers + offsets
    g = tl.load(gradient + places, mask=inside)
    m = tl.load(first + places, mask=inside)
    v = tl.load(second + places, mask=inside)
    p = tl.load(parameter + places, mask=inside)
    rate = tl.load(lr + member) * tl.load(coefficients)
    m += (g - m) * rest1
    v = v * beta2 + g * g * (1 - beta2)
    p *= 1 - rate * tl.load(decay + member)
    p += m / (tl.sqrt(v) + tl.load(coefficients + 2)) * (rate * tl.load(coefficients + 1))
    tl.store(first + places, m, mask=inside)
    tl.store(second + places, v, mask=inside)
    tl.store(parameter + places, p, mask=inside)


def adamw(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    lr: Tensor,
    decay: Tensor,
    coefficients: Tensor,
    betas: tuple[float, float],
) -> None:
    """Move one stacked parameter and its moments; see `PackAdamW.step`.

    Args:
        parameter: contiguous tensor (members, …), as are the next three. Its device must be the current one,
            since Triton launches there.
        gradient: gradient of the loss.
        first: first moment.
        second: second moment.
        lr: (members,) peak learning rates.
        decay: (members,) weight decays; zeros for parameters that are not decayed.
        coefficients: (4,) coefficients of this step, see `PackAdamW.coefficients`.
        betas: decay rates of the two moments.
    """
    members, numbers = parameter.shape[0], parameter[0].numel()
    grid = (triton.cdiv(numbers, _BLOCK), members)
    _kernel[grid](
        parameter,
        gradient.contiguous(),
        first,
        second,
        lr,
        decay,
        coefficients,
        numbers,
        1 - betas[0],
        betas[1],
        BLOCK=_BLOCK,
    )


def probe(device: torch.device) -> None:
    """Compile the kernel and run it once on tiny tensors.

    Raises:
        Exception: something is missing: a C compiler, a driver that Triton knows, a device that it supports.
    """
    one = [torch.ones(1, 1, device=device) for _ in range(4)]
    column = torch.ones(1, device=device)
    adamw(one[0], one[1], one[2], one[3], column, column, torch.ones(3, device=device), (0.9, 0.999))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
