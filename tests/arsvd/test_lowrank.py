"""A low-rank layer gives the same numbers whichever way its products are computed."""

import io
import warnings

import pytest
import torch
from torch import Tensor, nn

import arsvd

BIASES = [pytest.param(True, id="bias"), pytest.param(False, id="no bias")]


def product(layer: arsvd.LowRankLinear, x: Tensor) -> Tensor:
    expected = x @ (layer.left @ layer.right).T
    return expected if layer.bias is None else expected + layer.bias


def layer(rank: int, bias: bool = True, dtype: torch.dtype = torch.float64) -> arsvd.LowRankLinear:
    torch.manual_seed(rank)
    made = arsvd.LowRankLinear(40, rank, 24, bias=bias, dtype=dtype)
    if made.bias is not None:
        nn.init.normal_(made.bias)
    return made


@pytest.mark.parametrize("rank", [1, 15, 16, 17, 20])
@pytest.mark.parametrize("rows", [0, 1, 7, 31, 32, 33, 200])
@pytest.mark.parametrize("bias", BIASES)
def test_output_is_that_of_the_product(rank: int, rows: int, bias: bool) -> None:
    made, x = layer(rank, bias), torch.randn(rows, 40, dtype=torch.float64)

    assert made(x).shape == (rows, 24)
    torch.testing.assert_close(made(x), product(made, x))


@pytest.mark.parametrize("shape", [(40,), (3, 40), (2, 50, 40), (4, 2, 9, 40)])
def test_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    made, x = layer(17), torch.randn(shape, dtype=torch.float64)

    torch.testing.assert_close(made(x), product(made, x))


def test_rows_that_are_not_contiguous_are_read_right() -> None:
    made = layer(17)
    for x in (torch.randn(40, 64, dtype=torch.float64).T, torch.randn(64, 80, dtype=torch.float64)[:, ::2]):
        torch.testing.assert_close(made(x), product(made, x))


def test_a_batch_of_another_width_is_refused_at_any_size() -> None:
    made = layer(17)
    for rows in (2, 40, 400):
        with pytest.raises(RuntimeError, match="shape"):
            made(torch.randn(rows, 41, dtype=torch.float64))


@pytest.mark.parametrize("rows", [4, 64])
def test_gradients_are_those_of_the_product(rows: int) -> None:
    made, x = layer(17), torch.randn(rows, 40, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(product(made, x).square().sum(), [x, *made.parameters()])

    got = torch.autograd.grad(made(x).square().sum(), [x, *made.parameters()])

    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_the_layer_can_be_moved_to_bfloat16() -> None:
    made, x = layer(17, dtype=torch.float32), torch.randn(64, 40)
    got = made.to(torch.bfloat16)(x.to(torch.bfloat16))

    torch.testing.assert_close(got.float(), product(made.float(), x), rtol=0.1, atol=0.1)


def test_state_holds_the_two_factors_and_the_bias() -> None:
    assert {name: tuple(t.shape) for name, t in layer(17).state_dict().items()} == {
        "right": (17, 40),
        "left": (24, 17),
        "bias": (24,),
    }


@pytest.mark.parametrize("example_rows", [3, 100])
def test_an_exported_layer_takes_any_batch_and_stays_two_linear_operations(example_rows: int) -> None:
    made = layer(17, dtype=torch.float32)
    program = torch.export.export(
        made, (torch.randn(example_rows, 40),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)

    operations = [str(node.target) for node in loaded.graph.nodes if node.op == "call_function"]
    assert operations == ["aten.linear.default"] * 2
    for rows in (1, 7, 1000):
        x = torch.randn(rows, 40)
        torch.testing.assert_close(loaded.module()(x), made(x))


def test_a_traced_layer_takes_any_batch() -> None:
    made = layer(17, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and says that it fixes the way chosen
        traced = torch.jit.trace(made, torch.randn(100, 40))

    for rows in (1, 7, 1000):
        x = torch.randn(rows, 40)
        torch.testing.assert_close(traced(x), made(x))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_compiled_layer_gives_the_same(dynamic: bool) -> None:
    made = layer(17, dtype=torch.float32).eval()
    compiled = torch.compile(made, dynamic=dynamic)

    for rows in (2, 100, 64):
        x = torch.randn(rows, 40)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), made(x))
