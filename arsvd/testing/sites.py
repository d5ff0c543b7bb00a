"""The contract of a kind of site."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from arsvd.files.parts import build, describe
from arsvd.formats.factors import filled
from arsvd.sites import Site
from arsvd.sites.finding import find_sites


def its_layers_are_found(site: type[Site], number: int) -> None:
    """A layer of the kind is a site of the kind, and nothing else is."""
    layer, _ = _example(site, number)
    (found,) = find_sites(nn.Sequential(layer)).values()
    assert type(found) is site
    assert found.layer is layer
    assert set(vars(layer)) <= site.own_names()


def the_matrix_times_the_rows_is_the_layer(site: type[Site], number: int) -> None:
    """Rows times the matrix are the products, and with the bias what the layer computes."""
    layer, x = _example(site, number)
    place = site(layer)
    assert place.matrix.flatten(0, -2).shape == (place.out_features, place.in_features)
    products = place.rows(x) @ place.matrix.mT
    _close(products, place.products(x))
    bias = torch.zeros(place.out_features) if place.bias is None else place.bias
    _close(products + place.grouped(bias.to(products.dtype))[..., None, :], place.outputs(layer(x)))


def a_matrix_can_be_put_back(site: type[Site], number: int) -> None:
    """What is written as a matrix and a bias is read as such."""
    layer, _ = _example(site, number)
    place = site(layer)
    matrix, bias = torch.randn_like(place.matrix), torch.randn(place.out_features, dtype=place.weight.dtype)
    with torch.no_grad():
        place.with_matrix(matrix, bias)
    _close(place.matrix, matrix)
    assert place.bias is None or torch.equal(place.bias, bias)


def two_factors_are_their_product(site: type[Site], number: int) -> None:
    """The layer of two factors computes what a layer with their product does, shared or by itself."""
    layer, x = _example(site, number)
    place, rank = site(layer), 2
    left = torch.randn(place.out_features, rank, dtype=place.weight.dtype)
    right = torch.randn(*place.matrix.shape[:-2], rank, place.in_features, dtype=place.weight.dtype)
    pair = filled(place, left, right, place.bias)
    assert pair.rank == rank
    _close(place.restored(place.reduced(x, right), left, place.bias), pair(x))
    _close(place.restored(place.reduced(x, torch.cat([right, right], dim=-2)), left, place.bias), pair(x))
    weight = pair.weight
    assert isinstance(weight, Tensor)
    _close(weight, (place.grouped(left) @ right).reshape(place.weight.shape))
    with torch.no_grad():
        place.with_matrix(place.grouped(left) @ right, None)
    _close(pair(x), layer(x))


def files_hold_both_layers(site: type[Site], number: int) -> None:
    """The layer, and the one of two factors, are described in JSON and built again."""
    layer, x = _example(site, number)
    pair = site(layer).pair(1, layer.bias is not None)
    for part in (layer, pair):
        description = describe(part)
        again = build(description, part.state_dict(), "the contract's file")
        assert type(again) is type(part)
        assert torch.equal(again(x), part(x))


def dtype_and_device_are_kept(site: type[Site], number: int) -> None:
    """The layer of two factors has the dtype and the device of the dense one."""
    layer, _ = _example(site, number)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        pair = site(layer.to(dtype)).pair(1, bias=True)
        assert {parameter.dtype for parameter in pair.parameters()} == {dtype}
    pair = site(layer.to("meta")).pair(1, bias=True)
    assert {parameter.device.type for parameter in pair.parameters()} == {"meta"}


CHECKS: dict[str, Callable[[type[Site], int], None]] = {
    check.__name__: check
    for check in (
        its_layers_are_found,
        the_matrix_times_the_rows_is_the_layer,
        a_matrix_can_be_put_back,
        two_factors_are_their_product,
        files_hold_both_layers,
        dtype_and_device_are_kept,
    )
}


def _example(site: type[Site], number: int) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        layer, x = site.examples()[number]
        return layer.double().eval(), x.double()


def _close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
