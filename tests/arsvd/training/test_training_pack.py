"""Packs: drawing, padding, taking models in and out."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

import arsvd
from arsvd.training import (
    Architecture,
    Hyperparameters,
    Pack,
    architecture_of,
    dense_architecture,
    new_architecture,
    structure,
)


def shrunk(widths: Sequence[int], *ranks: int | None) -> nn.Module:
    model = arsvd.MLP(widths)
    spectra = arsvd.spectra(model)
    return arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks(ranks)))


class TestArchitectures:
    @pytest.mark.parametrize(
        ("widths", "factors", "expected"),
        [
            ([5, 3], 1, ((5, 3),)),
            ([5, 3, 4], 1, ((5, 3), (3, 4))),
            ([5, 3, 4], 2, ((5, 3, 3), (3, 3, 4))),
            ([5, 3], 3, ((5, 3, 3, 3),)),
        ],
    )
    def test_architectures_follow_from_widths_and_factors(
        self, widths: list[int], factors: int, expected: Architecture
    ) -> None:
        assert new_architecture(widths, {"model.factors": factors}) == expected

    def test_architectures_are_read_from_models(self) -> None:
        assert architecture_of(arsvd.MLP([12, 10, 4])) == ((12, 10), (10, 4))
        assert architecture_of(shrunk([12, 10, 4], 3, None)) == ((12, 3, 10), (10, 4))
        assert structure(architecture_of(shrunk([12, 10, 4], 3, None))) == (2, 1)
        with pytest.raises(ValueError, match="packs train MLPs, got a Sequential"):
            architecture_of(nn.Sequential(nn.Linear(3, 2)))

    @pytest.mark.parametrize("widths", [[5], [5, 0]])
    def test_refuses(self, widths: list[int]) -> None:
        with pytest.raises(ValueError, match="an MLP needs two or more widths of at least 1, got"):
            new_architecture(widths, {})

    @pytest.mark.parametrize(
        ("architectures", "message"),
        [
            pytest.param([], r"must agree in layers and factors per layer, got \[\]", id="no members"),
            pytest.param(
                [dense_architecture([5, 3]), dense_architecture([5, 4, 3])],
                r"agree in layers and factors per layer, got \[\(1,\), \(1, 1\)\]",
                id="depth",
            ),
            pytest.param(
                [dense_architecture([5, 3]), new_architecture([5, 3], {"model.factors": 2})],
                r"agree in layers and factors per layer, got \[\(1,\), \(2,\)\]",
                id="factors",
            ),
            pytest.param(
                [dense_architecture([5, 4, 3]), dense_architecture([5, 4, 2])],
                r"agree in inputs and classes, got \[\(5, 2\), \(5, 3\)\]",
                id="classes",
            ),
            pytest.param(
                [dense_architecture([5, 4, 3]), dense_architecture([6, 4, 3])],
                r"agree in inputs and classes, got \[\(5, 3\), \(6, 3\)\]",
                id="inputs",
            ),
        ],
    )
    def test_members_must_fit_together(self, architectures: list[Architecture], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Pack(architectures, torch.device("cpu"), torch.float32)


class TestFromSeeds:
    def test_a_member_is_drawn_the_same_in_any_pack(self) -> None:
        mine = new_architecture([6, 5, 3], {"model.factors": 2})
        alone = Pack.from_seeds([mine], [7])
        together = Pack.from_seeds([new_architecture([6, 9, 3], {"model.factors": 2}), mine], [1, 7])
        for a, b in zip(alone.parameters, together.parameters, strict=True):
            assert torch.equal(a[0], b[1, : a.shape[1], : a.shape[2]])

    def test_seeds_matter(self) -> None:
        pack = Pack.from_seeds([dense_architecture([6, 5, 3])] * 3, [1, 2, 1])
        assert not torch.equal(pack.weights[0][0][0], pack.weights[0][0][1])
        assert torch.equal(pack.weights[0][0][0], pack.weights[0][0][2])

    def test_plain_layers_are_drawn_as_nn_linear_draws_them(self) -> None:
        pack = Pack.from_seeds([dense_architecture([400, 300, 10])], [0])
        for weight, bias, (n, _) in zip(
            (w[0] for w in pack.weights), pack.biases, ((400, 300), (300, 10)), strict=True
        ):
            bound = n**-0.5
            for drawn in (weight, bias):
                assert drawn.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)

    def test_products_of_factors_are_scaled_like_plain_layers(self) -> None:
        for factors in (2, 3):
            pack = Pack.from_seeds([new_architecture([200, 100], {"model.factors": factors})], [0])
            product = pack.model(0, merge=True).linear1.weight
            assert product.std().item() == pytest.approx((3 * 200) ** -0.5, rel=0.05)

    def test_padding_is_zero(self) -> None:
        pack = Pack.from_seeds([new_architecture([6, w, 3], {"model.factors": 2}) for w in (2, 5)], [0, 1])
        assert not pack.weights[0][1][0, :, 2:].any()
        assert not pack.weights[1][0][0, 2:].any()
        assert not pack.biases[0][0, :, 2:].any()
        assert pack.hidden_widths == [[2, 5]]
        assert pack.members == 2


MODELS: dict[str, tuple[Any, ...]] = {
    "dense": (([12, 10, 4], None, None), ([12, 7, 4], None, None)),
    "different ranks": (([12, 10, 4], 3, 2), ([12, 10, 4], 1, 1), ([12, 11, 4], 5, 2)),
    "dense and low-rank layers": (([12, 10, 4], 3, None), ([12, 7, 4], 2, None)),
}


class TestModels:
    @pytest.mark.parametrize("name", MODELS)
    def test_models_come_out_as_they_went_in(self, name: str) -> None:
        models = [shrunk(widths, *ranks).eval() for widths, *ranks in MODELS[name]]
        x = torch.randn(9, 12)
        pack = Pack.from_models(models)
        logits = pack.forward(x[None])
        for member, model in enumerate(models):
            out = pack.model(member, merge=False)
            assert not out.training
            assert str(out) == str(model)
            assert all(torch.equal(value, model.state_dict()[key]) for key, value in out.state_dict().items())
            torch.testing.assert_close(logits[member], model(x))

    def test_a_model_out_of_a_pack_is_independent(self) -> None:
        pack = Pack.from_seeds([dense_architecture([6, 5, 3])], [0])
        model = pack.model(0, merge=False)
        before = pack.weights[0][0].clone()
        with torch.no_grad():
            model.linear1.weight.add_(1.0)
        assert torch.equal(pack.weights[0][0], before)

    @pytest.mark.parametrize("factors", [1, 2, 3])
    def test_merged_factors_give_the_pack_s_outputs(self, factors: int) -> None:
        pack = Pack.from_seeds(
            [new_architecture([6, w, 4, 3], {"model.factors": factors}) for w in (9, 5)], [0, 1]
        )
        x = torch.randn(1, 20, 6)
        for member in range(2):
            model = pack.model(member, merge=True)
            assert [type(site.layer) for site in arsvd.find_sites(model).values()] == [nn.Linear] * 3
            torch.testing.assert_close(model(x[0]), pack.forward(x)[member], rtol=1e-4, atol=1e-6)

    def test_three_factors_must_be_merged(self) -> None:
        pack = Pack.from_seeds([new_architecture([6, 3], {"model.factors": 3})], [0])
        with pytest.raises(ValueError, match="layer linear1 has 3 factors; only pairs can stay unmerged"):
            pack.model(0, merge=False)

    def test_hidden_units_and_weights_can_be_replaced(self) -> None:
        pack = Pack.from_seeds([dense_architecture([6, 5, 4, 3])], [0])
        x, masks = torch.randn(1, 9, 6), [torch.rand(1, 9, 5), torch.rand(1, 9, 4)]
        weights = [[factor * 2 for factor in factors] for factors in pack.weights]
        out = x
        for layer, mask in enumerate(masks):
            out = torch.relu(out @ weights[layer][0] + pack.biases[layer]) * mask
        found = pack.forward(x, weights, lambda x, layer: x * masks[layer])
        torch.testing.assert_close(found, out @ weights[2][0] + pack.biases[2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"settings": {"model.dropout": 1.0}}, "model.dropout: got 1.0, must be a number >= 0 and < 1"),
        ({"settings": {"model.factors": 0}}, "model.factors: got 0, must be a whole number >= 1"),
        (
            {"settings": {"training.flip": "auto"}},
            "training.flip: got 'auto', which has to be decided before",
        ),
        (
            {"settings": {"training.flips": True}},
            "no training method has an option training.flips; did you mean training.flip?",
        ),
        (
            {"lr": -1.0, "settings": {"model.dropout": 2.0, "training.label_smoothing": -1}},
            r"lr must be above 0; model.dropout: got 2.0, .*; training.label_smoothing: got -1, must be .*; "
            r"got Hyper.*lr=-1.0",
        ),
    ],
    ids=str,
)
def test_hyperparameters_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hyperparameters(**{"lr": 1e-3, **values})  # type: ignore[arg-type]


def test_settings_that_change_nothing_are_left_out() -> None:
    off = {"model.factors": 1, "model.dropout": 0, "training.flip": False}
    member = Hyperparameters(1e-3, settings={**off, "training.label_smoothing": 0.5})
    assert member.settings == {"training.label_smoothing": 0.5}
    assert Hyperparameters(1e-3, settings=off) == Hyperparameters(1e-3)
    assert (member["training.label_smoothing"], member["model.factors"]) == (0.5, 1)
