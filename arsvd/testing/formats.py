"""The contract of a format."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from arsvd.compression import compress
from arsvd.cost import NUMBER_BITS
from arsvd.evaluation.evaluator import Evaluator, evaluate
from arsvd.files.exported import write_exported
from arsvd.files.serialization import load, rebuildable, save
from arsvd.formats import FORMATS
from arsvd.numbers.quantise import quantise
from arsvd.planning import Plan, plan
from arsvd.rules.given import Ranks
from arsvd.sites import Site
from arsvd.sites.finding import find_sites
from arsvd.statistics.factorise import spectra
from arsvd.statistics.spectrum import Spectra
from arsvd.testing.networks import inputs, network


def it_is_registered_by_its_name(format: str, basis: str, net: str) -> None:
    """The registry has the format under its own name."""
    assert FORMATS[format].name == format


def the_largest_size_is_the_site(format: str, basis: str, net: str) -> None:
    """Nothing is lost where every component is kept."""
    model, found = _made(format, basis, net)
    for spectrum, site in zip(found, _sites(model, found), strict=True):
        layer = FORMATS[format].layer(site, spectrum, spectrum.largest)
        x = _seen(model, site)
        torch.testing.assert_close(layer(x), site.layer(x), rtol=1e-8, atol=1e-8)


def a_cost_is_what_is_stored(format: str, basis: str, net: str) -> None:
    """Numbers are those of the layer's parameters, and bits theirs and its buffers', to the last one."""
    model, found = _made(format, basis, net)
    for spectrum, site in zip(found, _sites(model, found), strict=True):
        for size in range(1, spectrum.largest + 1):
            layer = FORMATS[format].layer(site, spectrum, size)
            numbers = sum(parameter.numel() for parameter in layer.parameters())
            buffers = sum(8 * buffer.element_size() * buffer.numel() for buffer in layer.buffers())
            cost = spectrum.cost(size)
            assert (cost.numbers, cost.bits) == (numbers, NUMBER_BITS * numbers + buffers)


def costs_and_energies_rise_with_the_size(format: str, basis: str, net: str) -> None:
    """A larger size costs more, and keeps at least as much."""
    for spectrum in _made(format, basis, net)[1]:
        sizes = range(1, spectrum.largest + 1)
        costs = [spectrum.cost(size) for size in sizes]
        for name in ("numbers", "bits", "macs"):
            values = [getattr(cost, name) for cost in costs]
            assert values == sorted(set(values))
        kept = [spectrum.kept(size) for size in sizes]
        assert kept == sorted(kept)
        assert kept[-1] == 1.0


def errors_are_the_energies_that_are_dropped(format: str, basis: str, net: str) -> None:
    """In the weight basis the squared error of the weight is the energy of the components left out."""
    model, found = _made(format, "weight", net)
    for spectrum, site in zip(found, _sites(model, found), strict=True):
        at_sizes = FORMATS[format].at_sizes(site, spectrum)
        for size in range(1, spectrum.largest + 1):
            error = float((site.weight - at_sizes.numbers(size)[0]).square().sum())
            dropped = float(spectrum.energy[size:].sum())
            assert abs(error - dropped) <= 1e-9 * (1 + float(spectrum.energy.sum()))


def a_site_at_many_sizes_is_its_layers(format: str, basis: str, net: str) -> None:
    """What is measured at a size is what the layer of that size computes."""
    model, found = _made(format, basis, net)
    for spectrum, site in zip(found, _sites(model, found), strict=True):
        x = _seen(model, site)
        sizes = [None, *range(spectrum.largest, 0, -1)]
        measured = dict(FORMATS[format].at_sizes(site, spectrum).outputs(x, sizes))
        assert set(measured) == set(sizes)
        torch.testing.assert_close(measured[None], site.layer(x))
        for size in range(1, spectrum.largest + 1):
            layer = FORMATS[format].layer(site, spectrum, size)
            torch.testing.assert_close(measured[size], layer(x), rtol=1e-9, atol=1e-9)


def a_model_is_measured_as_it_is_built(format: str, basis: str, net: str) -> None:
    """A point has the loss of the compressed model, and its cost what that model stores."""
    model, found = _made(format, basis, net)
    rows = inputs()
    with torch.no_grad():
        labels = model(rows).argmax(1)
    evaluator = Evaluator(model, found, rows, labels)
    for chosen in _plans(found):
        (point,) = evaluator.points([chosen])
        small = compress(model, found, chosen)
        assert abs(evaluate(small, rows, labels).loss - point.loss) <= 1e-9 + 1e-6 * abs(point.loss)
        assert sum(parameter.numel() for parameter in small.parameters()) == point.cost.numbers
        assert {c.format for c in point.choices if c.size} == {format}


def files_give_the_model_back(format: str, basis: str, net: str) -> None:
    """A compressed model is the same after it was saved and loaded, alone or into the dense model."""
    model, found = _made(format, basis, net)
    for chosen in _plans(found):
        small = compress(model, found, chosen).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.safetensors"
            save(small, path)
            for into in (None, network(net)) if rebuildable(model) else (network(net),):
                torch.testing.assert_close(load(path, into=into)(inputs()), small(inputs()), rtol=0, atol=0)


def programs_give_the_model_back(format: str, basis: str, net: str) -> None:
    """A compressed model computes the same as a program of torch.export, at any number of rows."""
    model, found = _made(format, basis, net)
    for chosen in _plans(found)[:1]:  # torch takes a second for each
        small = compress(model, found, chosen).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.pt2"
            write_exported(small, path, inputs(4))
            program = torch.export.load(path).module()
        for rows in (inputs(2), inputs(7)):
            torch.testing.assert_close(program(rows), small(rows), rtol=1e-9, atol=1e-9)


def codes_stand_for_the_weights(format: str, basis: str, net: str) -> None:
    """Where weights may be codes, each has a step, and small steps lose next to nothing."""
    model, found = _made(format, basis, net)
    for chosen in _plans(found) if FORMATS[format].coded else []:
        small = compress(model, found, chosen)
        for layer in small.modules():
            if FORMATS[format].options(layer) is not None:
                steps = torch.arange(FORMATS[format].steps(layer)).double() + 1
                for name in FORMATS[format].coded:
                    wanted = getattr(layer, name).shape
                    spread = FORMATS[format].spread(layer, name, steps).expand(wanted)
                    assert set(spread.reshape(-1).tolist()) == set(steps.tolist())
        rounded = quantise(small, 2.0**-10)
        torch.testing.assert_close(rounded(inputs()), small(inputs()), rtol=1e-2, atol=1e-2)


def dtype_is_kept(format: str, basis: str, net: str) -> None:
    """A layer has the dtype of the one whose place it takes."""
    model, found = _made(format, basis, net)
    for dtype in (torch.float16, torch.float32):
        for spectrum, site in zip(found, _sites(model.to(dtype), found), strict=True):
            layer = FORMATS[format].layer(site, spectrum, 1)
            assert {parameter.dtype for parameter in layer.parameters()} == {dtype}


CHECKS: dict[str, Callable[[str, str, str], None]] = {
    check.__name__: check
    for check in (
        it_is_registered_by_its_name,
        the_largest_size_is_the_site,
        a_cost_is_what_is_stored,
        costs_and_energies_rise_with_the_size,
        errors_are_the_energies_that_are_dropped,
        a_site_at_many_sizes_is_its_layers,
        a_model_is_measured_as_it_is_built,
        files_give_the_model_back,
        programs_give_the_model_back,
        codes_stand_for_the_weights,
        dtype_is_kept,
    )
}


def _made(format: str, basis: str, net: str) -> tuple[nn.Module, Spectra]:
    model = network(net)
    return model, spectra(model, None if basis == "weight" else inputs(), basis=basis, format=format)


def _sites(model: nn.Module, found: Spectra) -> Iterator[Site]:
    return iter(find_sites(model, [spectrum.name for spectrum in found]).values())


def _seen(model: nn.Module, site: Site) -> Tensor:
    """Return the inputs that a site's layer has when the model runs."""
    seen: list[Tensor] = []
    handle = site.layer.register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(inputs(5))
    handle.remove()
    return seen[0]


def _plans(found: Spectra) -> list[Plan]:
    """Plan the smallest sizes, and about half of the largest, where that compresses anything."""
    shares = (0.0, 0.5)
    sizes = [tuple(max(1, int(share * spectrum.largest)) for spectrum in found) for share in shares]
    plans = [plan(found, Ranks(each)) for each in sizes]
    return [chosen for chosen in plans if any(size is not None for size in chosen.ranks)]
