"""Finding and replacing linear layers; the low-rank layer, the MLP and the normalisation."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import arsvd
from arsvd.layers import replace_layer


class Tied(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(5, 7)
        self.other = nn.Linear(5, 6)
        if kind == "two layers":
            self.second.weight = self.first.weight
        elif kind == "an embedding":
            self.second.weight = self.embedding.weight
        elif kind == "the model itself":
            self.shared = self.second.weight
        else:
            self.second.bias = self.first.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x), self.other(x)], dim=1)


class TestLinearLayers:
    def test_finds_any_depth_in_the_order_of_registration(self) -> None:
        model = nn.Sequential(nn.ModuleDict({"z": nn.Linear(2, 3), "a": nn.ModuleList([nn.Linear(3, 2)])}))
        model.append(nn.Linear(2, 2))
        assert list(arsvd.find_sites(model)) == ["0.z", "0.a.0", "1"]

    def test_the_root_has_the_empty_name(self) -> None:
        layer = nn.Linear(2, 3)
        (found,) = arsvd.find_sites(layer).items()
        assert (found[0], found[1].layer) == ("", layer)

    def test_a_layer_registered_twice_is_listed_once(self) -> None:
        layer = nn.Linear(3, 3)
        assert list(arsvd.find_sites(nn.Sequential(layer, nn.ReLU(), layer))) == ["0"]

    @pytest.mark.parametrize(
        "left_alone",
        [
            pytest.param(lambda: nn.MultiheadAttention(4, 2), id="output projection of attention"),
            pytest.param(lambda: parametrizations.orthogonal(nn.Linear(4, 4)), id="parametrisation"),
            pytest.param(lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5), id="pruned"),
            pytest.param(lambda: nn.LazyLinear(4), id="lazy"),
            pytest.param(lambda: arsvd.LowRankLinear(4, 2, 4), id="compressed already"),
        ],
    )
    def test_leaves_alone_layers_that_factors_would_break(self, left_alone: object) -> None:
        part = left_alone()  # type: ignore[operator]
        model = nn.ModuleList([part, nn.Linear(4, 2)])
        assert list(arsvd.find_sites(model)) == ["1"]
        with pytest.raises(
            ValueError, match=r"holds no Linear or Conv2d layer, so there is nothing to factorise"
        ):
            arsvd.find_sites(nn.ModuleList([part]))

    @pytest.mark.parametrize(
        ("kind", "left"),
        [
            (
                "two layers",
                {"first": "its weight is tied to second", "second": "its weight is tied to first"},
            ),
            ("an embedding", {"second": "its weight is tied to embedding"}),
            ("the model itself", {"second": "its weight is tied to shared"}),
            ("biases", {"first": "its bias is tied to second", "second": "its bias is tied to first"}),
        ],
    )
    @pytest.mark.parametrize("calibrated", [False, True], ids=["weight", "activation"])
    def test_tied_layers_stay_dense_and_are_told(
        self, kind: str, left: dict[str, str], calibrated: bool
    ) -> None:
        model = Tied(kind)
        spectra = arsvd.spectra(model, torch.randn(9, 5) if calibrated else None)
        assert spectra.coverage is not None
        assert spectra.coverage.skipped == tuple(left.items())
        names = [name for name in ("first", "second", "other") if name not in left]
        assert [spectrum.name for spectrum in spectra] == names
        small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((1,) * len(names))))
        assert all(isinstance(small.get_submodule(name), arsvd.LowRankLinear) for name in names)
        others = {"two layers": small.first, "an embedding": small.embedding}
        if kind in others:
            assert small.second.weight is others[kind].weight
        if kind == "biases":
            assert small.second.bias is small.first.bias

    def test_where_all_are_tied_nothing_is_left(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"nothing to factorise; left dense: 0 \(its weight is tied to 1\), 1",
        ):
            arsvd.spectra(nn.Sequential(*list(Tied("two layers").children())[1:3]))

    def test_a_tied_layer_that_is_asked_for_is_refused(self) -> None:
        assert list(arsvd.find_sites(Tied("an embedding"), ["first"])) == ["first"]
        with pytest.raises(
            ValueError, match="'second' cannot be factorised: its weight is tied to embedding"
        ):
            arsvd.spectra(Tied("an embedding"), layers=["first", "second"])

    def test_names_an_unknown_layer_and_those_there_are(self) -> None:
        with pytest.raises(
            ValueError, match=r"no Linear or Conv2d layer is named \['fc'\]; the model has \['linear1'\]"
        ):
            arsvd.find_sites(arsvd.MLP([3, 2]), ["fc"])


class TestReplaceLayer:
    def test_puts_the_new_layer_wherever_the_old_one_was(self) -> None:
        old, new = nn.Linear(3, 3), nn.Linear(3, 3)
        model = nn.Sequential(old, nn.Sequential(nn.ModuleDict({"x": old})), nn.Linear(3, 3))
        replace_layer(model, old, new)
        assert model[0] is new
        assert model[1][0]["x"] is new
        assert all(module is not old for module in model.modules())

    def test_refuses_a_layer_from_elsewhere(self) -> None:
        with pytest.raises(ValueError, match="is not a part of the model MLP"):
            replace_layer(arsvd.MLP([3, 2]), nn.Linear(3, 2), nn.Linear(3, 2))


class TestLowRankLinear:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
    def test_multiplies_by_both_factors(self, bias: bool, shape: tuple[int, ...]) -> None:
        layer = arsvd.LowRankLinear(5, 2, 4, bias=bias, dtype=torch.float64)
        x = torch.randn(shape, dtype=torch.float64)
        expected = x @ (layer.left @ layer.right).T
        if bias:
            assert layer.bias is not None
            nn.init.normal_(layer.bias)
            expected = expected + layer.bias
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))

    def test_starts_on_the_scale_of_a_plain_layer(self) -> None:
        low = arsvd.LowRankLinear(400, 100, 300).weight.norm() / 100**0.5
        plain = nn.Linear(400, 300).weight.norm() / 300**0.5
        assert (low / plain).item() == pytest.approx(1.0, abs=0.05)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_starts_in_any_dtype(self, dtype: torch.dtype) -> None:
        assert torch.isfinite(arsvd.LowRankLinear(6, 2, 4, dtype=dtype).weight).all()

    @pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
    def test_refuses_an_empty_dimension(self, sizes: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match="dimensions of at least 1, got {} -> {} -> {}".format(*sizes)):
            arsvd.LowRankLinear(*sizes)

    def test_prints_its_shape(self) -> None:
        assert "in_features=6, rank=2, out_features=4" in repr(arsvd.LowRankLinear(6, 2, 4))


class TestMLP:
    def test_is_linear_layers_with_relu_between_them(self) -> None:
        model = arsvd.MLP([6, 5, 4, 3]).double()
        x = torch.randn(7, 1, 2, 3, dtype=torch.float64)
        hidden = torch.relu(model.linear1(x.flatten(1)))
        hidden = torch.relu(model.linear2(hidden))
        torch.testing.assert_close(model(x), model.linear3(hidden))
        assert list(arsvd.find_sites(model)) == ["linear1", "linear2", "linear3"]

    def test_drops_hidden_units_only_while_training(self) -> None:
        model, x = arsvd.MLP([6, 50, 3], dropout=0.5), torch.randn(4, 6)
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))

    def test_a_slice_is_a_plain_chain_of_its_parts(self) -> None:
        model, x = arsvd.MLP([6, 5, 4, 3]), torch.randn(7, 6)
        body, head = model[:-1], model[-1]
        assert type(body) is nn.Sequential
        assert head is model.linear3
        assert torch.equal(head(body(x)), model(x))

    @pytest.mark.parametrize("widths", [[], [5], [5, 0], [5, -1, 2], [5, 2.5]])
    def test_refuses_widths(self, widths: Sequence[int]) -> None:
        with pytest.raises(ValueError, match="two or more whole numbers of at least 1, got"):
            arsvd.MLP(widths)

    @pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
    def test_refuses_dropout(self, dropout: float) -> None:
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
            arsvd.MLP([5, 4], dropout)


class TestNormalize:
    def test_normalises_each_channel(self) -> None:
        x = torch.rand(5, 2, 3, 4)
        expected = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 0.25], dim=1)
        torch.testing.assert_close(arsvd.Normalize([0.1, 0.2], [0.5, 0.25])(x), expected)

    def test_whole_puts_it_in_front(self) -> None:
        network, x = arsvd.MLP([24, 3]), torch.rand(5, 2, 3, 4)
        model = arsvd.whole(network, [0.1, 0.2], [0.5, 0.25])
        assert torch.equal(model(x), network(model.normalize(x)))

    @pytest.mark.parametrize(
        ("mean", "std", "message"),
        [
            pytest.param([0.1], [0.5, 0.5], "one entry a channel, got 1 and 2", id="lengths"),
            pytest.param([], [], "one entry a channel, got 0 and 0", id="empty"),
            pytest.param([0.1, 0.2], [0.5, 0.0], r"must be above 0, got \[0.5, 0.0\]", id="zero"),
            pytest.param([0.1], [float("nan")], "must be above 0", id="nan"),
        ],
    )
    def test_refuses(self, mean: list[float], std: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            arsvd.Normalize(mean, std)

    def test_buffers_are_not_parameters(self) -> None:
        assert list(arsvd.Normalize([0.1], [0.5]).parameters()) == []
