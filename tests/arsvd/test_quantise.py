"""Models with codes for weights: what they compute, store and lose."""

import copy
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import arsvd
from arsvd.codings import CODINGS
from arsvd.files.codes import _WORDS
from arsvd.files.serialization import read_metadata
from arsvd.numbers.coded import Coded, coded_names, float_form
from arsvd.numbers.quantise import quantise

Made = Callable[[], tuple[nn.Module, Tensor]]


def low_rank() -> tuple[nn.Module, Tensor]:
    model, x = arsvd.MLP([12, 40, 30, 4]), torch.randn(200, 12)
    spectra = arsvd.spectra(model, x)
    return arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((5, 6, None)))), x


def convolutional() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        *(nn.Conv2d(4, 12, 3, groups=2), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1, bias=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 16, 5)),
    )
    x = torch.randn(60, 4, 6, 6)
    spectra = arsvd.spectra(model, x)
    return arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((2, 4, None)))), x


MODELS: dict[str, Made] = {
    "dense": lambda: (arsvd.MLP([12, 40, 4]), torch.randn(200, 12)),
    "low rank": low_rank,
    "convolutions": convolutional,
    "one layer": lambda: (nn.Linear(12, 4), torch.randn(200, 12)),
}


@pytest.fixture(params=MODELS)
def made(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = MODELS[request.param]()
    return model.eval(), x


def coded_layers(model: nn.Module) -> list[Coded]:
    return [module for module in model.modules() if isinstance(module, Coded)]


def test_every_layer_is_coded_and_the_model_is_left_alone(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    before = copy.deepcopy(model.state_dict())
    small = quantise(model, 1.0, x)
    assert len(coded_layers(small)) == len([m for m in model.modules() if hasattr(m, "weight")])
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not list(small.parameters())
    for layer in coded_layers(small):
        state = layer.state_dict()
        floats = {name for name, value in state.items() if value.is_floating_point()}
        assert floats <= {"steps", "bias_stored"}
        assert {state[name].dtype for name in floats} == {torch.float16}


def test_small_steps_lose_next_to_nothing(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    errors = [
        float((quantise(model, step, x)(x) - model(x)).norm() / model(x).norm()) for step in (0.01, 0.1, 1)
    ]
    assert errors[0] < 0.01
    assert errors == sorted(errors)


def test_gptq_loses_less_than_the_nearest_levels(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        pytest.skip("the inputs of convolutions are no rows")
    wanted = model(x)
    lost = [float((quantise(model, 1.0, x, name)(x) - wanted).norm()) for name in ("nearest", "gptq")]
    assert lost[1] <= lost[0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_have_a_width(made: tuple[nn.Module, Tensor], bits: int) -> None:
    model, x = made
    for layer in coded_layers(quantise(model, 1.0, x, bits=bits)):
        for name, value in layer.state_dict().items():
            if name.endswith("_codes"):
                assert -(2 ** (bits - 1)) <= int(value.min()) <= int(value.max()) < 2 ** (bits - 1)


def test_files_hold_coded_bytes_and_give_the_model_back(
    made: tuple[nn.Module, Tensor], tmp_path: Path
) -> None:
    model, x = made
    small = quantise(model, 0.5, x)
    path = tmp_path / "small.safetensors"
    arsvd.save(small, path, {"from": "a test"})
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == ["model"]
    assert read_metadata(path) == {"from": "a test"}
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert path.stat().st_size < numbers + 700  # less than a byte a number
    again = arsvd.load(path)
    assert torch.equal(again(x), small(x))
    assert all(torch.equal(again.state_dict()[name], value) for name, value in small.state_dict().items())
    if isinstance(model, nn.Sequential):
        assert torch.equal(arsvd.load(path, into=dense_of(model))(x), small(x))


def dense_of(model: nn.Module) -> nn.Module:
    """The same model with dense layers, whose numbers do not matter."""
    found = nn.Sequential(copy.deepcopy(model))
    for parent in list(found.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, arsvd.LowRankLinear):
                parent._modules[name] = nn.Linear(child.in_features, child.out_features)
            elif type(child).__name__ == "LowRankConv2d":
                parent._modules[name] = nn.Conv2d(
                    child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding,
                    groups=child.groups,
                )  # fmt: skip
    return found[0]


def test_programs_hold_the_weights_that_codes_stand_for(
    made: tuple[nn.Module, Tensor], tmp_path: Path
) -> None:
    model, x = made
    small = quantise(model, 0.5, x)
    arsvd.write_model(small, tmp_path / "small.pt2", x[:3])
    program = torch.export.load(tmp_path / "small.pt2")
    assert {value.dtype for value in program.state_dict.values()} == {torch.float32}
    torch.testing.assert_close(program.module()(x[:7]), small(x[:7]), rtol=1e-5, atol=1e-6)
    assert torch.equal(float_form(small)(x), small(x))
    assert float_form(model) is model


def test_what_is_no_code_takes_few_bytes(tmp_path: Path) -> None:
    """Of an MLP: the container, the description and the checksum, beside codes, steps and biases."""
    model = arsvd.MLP([784, 256, 128, 10])
    spectra = arsvd.spectra(model)
    small = quantise(arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((20, 12, None)))), 1.0)
    arsvd.save(small, tmp_path / "small.safetensors")
    blocks = [layer.codes(name).numpy() for layer in coded_layers(small) for name in coded_names(layer.layer)]
    others = 2 * sum(v.numel() for v in small.state_dict().values() if v.is_floating_point())
    taken = len(CODINGS["adaptive"].encode(blocks)) + others
    assert (tmp_path / "small.safetensors").stat().st_size - taken < 400


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0.0}, "a step is above 0 and at most 64"),
        ({"step": float("nan")}, "a step is above 0"),
        ({"rounding": "gptq"}, "the rounding 'gptq' needs calibration inputs"),
        ({"rounding": "up"}, "unknown rounding 'up'"),
        ({"bits": 40}, "codes have 1 to 32 bits, got 40"),
    ],
)
def test_settings_out_of_bounds(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantise(arsvd.MLP([4, 3]), **settings)  # type: ignore[arg-type]


def test_weights_that_are_no_numbers() -> None:
    model = arsvd.MLP([4, 3])
    with torch.no_grad():
        model.linear1.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer 'linear1' holds NaN or infinite weights"):
        quantise(model)


def test_inputs_that_the_model_does_not_take() -> None:
    with pytest.raises(ValueError, match=r"does not take calibration inputs of shape \(8, 5\)"):
        quantise(arsvd.MLP([4, 3]), calibration=torch.randn(8, 5))


class Named(nn.Module):
    """Calls its layer with a keyword."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(input=x)
        return result


def test_a_layer_that_is_called_with_a_keyword_is_rounded_for_its_inputs() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 4), torch.randn(200, 12)
    assert torch.equal(quantise(Named(layer), 1.0, x)(x), quantise(layer, 1.0, x)(x))


def test_a_model_without_layers() -> None:
    with pytest.raises(ValueError, match="ReLU holds no layer whose weights can be rounded"):
        quantise(nn.ReLU())


def test_the_dictionary_of_descriptions_is_for_ever() -> None:
    """Every file that was written needs these very bytes."""
    assert zlib.crc32(_WORDS) == 970109568
