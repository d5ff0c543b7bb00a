"""The fused kernel of AdamW against the optimizer: in Triton's interpreter, on CUDA where there is one."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from arsvd.training.optimizer import PackAdamW

RATES, DECAYS = (1e-3, 1e-2, 0.3), (0.0, 0.1, 0.5)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: it comes with CUDA builds of torch",
)


def compare(device: str) -> None:
    """Five steps of tensors larger and smaller than a block, one with padding."""
    from arsvd.training.fused import adamw

    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    weights, biases = [drawn(3, 40, 50), drawn(3, 50, 7)], [drawn(3, 1, 50), drawn(3, 1, 7)]
    weights[0][1, :, 30:] = 0
    lr, decay = torch.tensor(RATES, device=device), torch.tensor(DECAYS, device=device)
    parameters = [tensor.clone() for tensor in (*weights, *biases)]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    reference = PackAdamW(weights, biases, lr, decay)
    reference._fused = False
    reference._scratch = [torch.empty_like(p) for p in parameters]
    for coefficients in reference.coefficients([0.1, 0.5, 1.0, 0.7, 0.2]):
        gradients = [drawn(*p.shape) for p in parameters]
        gradients[0][1, :, 30:] = 0
        reference.step(gradients, coefficients)
        for i, parameter in enumerate(parameters):
            shrinks = decay if i < 2 else torch.zeros_like(decay)
            adamw(parameter, gradients[i], first[i], second[i], lr, shrinks, coefficients, (0.9, 0.999))
    expected_all = (reference.parameters, *reference.moments)
    for ours, expected in zip((parameters, first, second), expected_all, strict=True):
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert not bool(parameters[0][1, :, 30:].any())


def test_in_the_interpreter() -> None:
    """In a process of its own: Triton reads the variable when it is imported."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "equal\n"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_a_gpu() -> None:
    compare("cuda")


if __name__ == "__main__":
    compare("cpu")
    print("equal")
