"""Factorise each site of a model once: its components, and the energy of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from arsvd.batches import EXAMPLE_ROWS, calibration_batches
from arsvd.copying import own_example
from arsvd.cost import NUMBER_BITS, Cost
from arsvd.coverage import Counted, Coverage, counted_macs
from arsvd.files.exported import closed_regions
from arsvd.footprint import rows_at_once
from arsvd.formats import FORMATS, LOW_RANK
from arsvd.modes import unwrapped
from arsvd.sites import Site
from arsvd.sites.finding import check_numbers, find_sites, survey
from arsvd.statistics import BASES
from arsvd.statistics.observed import Observed, output_moments
from arsvd.statistics.spectrum import Spectra, Spectrum


def spectra(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor] | None = None,
    layers: Iterable[str] | None = None,
    batch_size: int = 2048,
    basis: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    format: str = LOW_RANK,
    example: Tensor | None = None,
) -> Spectra:
    """Factorise every site of a model: its linear layers and its two-dimensional convolutions.

    Layers that cannot be factorised, or that never ran on the calibration inputs, stay dense, and `coverage`
    names them. A model that was compiled, or wrapped for data parallelism, is run without its wrapper.

    Args:
        model: any module that holds such layers; it is not changed.
        calibration: inputs of the model (rows, …), or a list or an iterator of batches of them; at least 2
            rows. With inputs, the default basis is "activation"; with None, it is "weight". Every position
            counts as a row of a layer, even one of padding.
        layers: names of the layers to factorise; all when None.
        batch_size: largest number of rows per forward pass where `calibration` is one tensor; fewer are taken
            where the model computes much for each row.
        basis: name of the basis, "weight", "activation" or "loss"; "loss" is for classifiers and needs a
            backward pass.
        progress: callback for the batches done and the batches in all.
        format: name of the format to factorise for.
        example: inputs (rows, …) that the model is run on once, to see how often each layer is called per
            row, and to check compressed copies with; by default the first calibration inputs. Without either,
            the multiplications of a convolution are those of one position.

    Returns:
        One spectrum per site.

    Raises:
        ValueError: a layer holds numbers that are NaN, infinite, complex or missing (meta tensors), or has
            outputs that are not finite; no layer can be factorised, or a requested one cannot; the model was
            made in inference mode; there are fewer than 2 rows, or no batches of inputs that the model takes;
            the basis is unknown or does not go with the calibration; the format is unknown or applies to no
            site.
        TypeError: a calibration batch is not a tensor.
    """
    basis = chosen_basis(basis, calibration)
    with torch.inference_mode(False), unwrapped(model) as plain:
        found = find_sites(plain, layers)
        sites, skipped = survey(plain)
        skipped |= {name: "it was not asked for" for name in sites if name not in found}
        skipped |= {
            region.name: f"a region of the program that stays closed, {region.params:,} numbers"
            for region in closed_regions(plain)
        }
        found = _formed(found, format, skipped, asked=layers is not None)
        check_numbers(plain, found)
        batches: list[Tensor] = []
        given = example
        example = own_example(plain) if given is None else given[:EXAMPLE_ROWS].clone()
        if calibration is not None:
            if isinstance(calibration, Tensor) and calibration.ndim:
                batch_size = rows_at_once(plain, calibration, batch_size)
            batches = list(calibration_batches(calibration, batch_size))
            example = batches[0][:EXAMPLE_ROWS].clone() if given is None else example
        observed = {name: Observed(name, site) for name, site in found.items()}
        if batches:
            moments = output_moments(plain, found, _told(batches, progress))
            silent = [name for name in found if name not in moments]
            _check_silent(silent, found, asked=layers is not None)
            skipped |= dict.fromkeys(silent, "it never ran on the calibration inputs")
            found = {name: site for name, site in found.items() if name in moments}
            metrics = BASES[basis].metrics(plain, found, batches)
            observed = {
                name: Observed(name, site, moments[name], metrics.get(name)) for name, site in found.items()
            }
        counted = counted_macs(plain, found, example)
        results = [
            spectrum
            for each in observed.values()
            for spectrum in FORMATS[format].spectra(basis, [_placed(each, counted)])
        ]
        places = {name: place for place, (name, _) in enumerate(plain.named_modules())}
        listed = sorted(skipped.items(), key=lambda item: places.get(item[0], len(places)))
        return joined(plain, basis, results, listed, counted, example)


def _formed(sites: Mapping[str, Site], format: str, skipped: dict[str, str], asked: bool) -> dict[str, Site]:
    """Keep the sites that a format applies to, and note in `skipped` why the others stay dense.

    Raises:
        ValueError: the format applies to no site, or not to one that was asked for.
    """
    refused = {
        name: reason for name, site in sites.items() if (reason := FORMATS[format].refusal(site)) is not None
    }
    if refused and (asked or len(refused) == len(sites)):
        name, reason = next(iter(refused.items()))
        raise ValueError(f"layer {name!r} cannot be kept in the format {format!r}: {reason}")
    skipped |= refused
    return {name: site for name, site in sites.items() if name not in refused}


def _placed(observed: Observed, counted: Counted | None) -> Observed:
    """Note how many rows the site's matrix multiplies per input row, where the site has several positions."""
    if counted is None or not observed.site.positional:
        return observed
    return replace(observed, positions=counted.positions.get(observed.name, 1.0))


def _told(batches: Sequence[Tensor], progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        if progress is not None:
            progress(done, len(batches))


def _check_silent(silent: Sequence[str], sites: Mapping[str, Site], asked: bool) -> None:
    if silent and asked:
        raise ValueError(
            f"layers {list(silent)} never ran on the calibration inputs; "
            f"pass layers=[...] without them to leave them dense"
        )
    if len(silent) == len(sites):
        raise ValueError(f"no layer ran on the calibration inputs; the model has {list(silent)}")


def chosen_basis(basis: str | None, calibration: Tensor | Iterable[Tensor] | None) -> str:
    """Return the basis asked for, or the one that goes with the calibration.

    Raises:
        ValueError: the basis is unknown or does not go with the calibration.
    """
    basis = basis or ("weight" if calibration is None else "activation")
    if BASES[basis].calibrated == (calibration is None):
        needs = "needs" if BASES[basis].calibrated else "takes no"
        raise ValueError(f"the {basis} basis {needs} calibration inputs")
    return basis


def joined(
    model: nn.Module,
    basis: str,
    layers: Sequence[Spectrum],
    skipped: Iterable[tuple[str, str]] = (),
    counted: Counted | None = None,
    example: Tensor | None = None,
) -> Spectra:
    """Put a model's spectra together.

    Args:
        model: model that was factorised.
        basis: name of the basis of the spectra.
        layers: one spectrum per site.
        skipped: layers that stay dense, each with the reason.
        counted: multiplications for one input row; None where they could not be counted.
        example: a few rows of inputs; None where there are none.
    """
    inside = sum(spectrum.cost(None).numbers for spectrum in layers)
    overall = sum(p.numel() for p in model.parameters())
    own, every = (None, None) if counted is None else (counted.own, counted.overall)
    coverage = Coverage(inside, overall, own, every, tuple(skipped))
    buffers = sum(8 * buffer.element_size() * buffer.numel() for buffer in model.buffers())
    rest = Cost(overall - inside, NUMBER_BITS * (overall - inside) + buffers, 0)
    return Spectra(basis, tuple(layers), rest, coverage, example)
