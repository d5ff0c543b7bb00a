"""The contract of a basis."""

from collections.abc import Callable

import torch

from arsvd.compression import compress
from arsvd.planning import plan
from arsvd.rules.given import Ranks
from arsvd.sites.finding import find_sites
from arsvd.statistics import BASES
from arsvd.statistics.factorise import spectra
from arsvd.statistics.spectrum import Spectra
from arsvd.testing.networks import inputs, network


def its_range_is_of_shares(basis: str, net: str) -> None:
    """The range of thresholds worth trying consists of shares of the energy."""
    low, high = BASES[basis].energy_range
    assert 0 < low < high < 1


def inputs_are_taken_where_they_are_needed(basis: str, net: str) -> None:
    """A basis that uses inputs requires them, and one that does not refuses them."""
    given = None if BASES[basis].calibrated else inputs()
    try:
        spectra(network(net), given, basis=basis)
    except ValueError as error:
        assert basis in str(error)
    else:
        raise AssertionError(f"the {basis} basis takes {'no' if given is None else ''} inputs")


def energy_descends_from_the_first_component(basis: str, net: str) -> None:
    """Energies are finite, non-negative and in descending order."""
    for spectrum in _made(basis, net):
        energy = spectrum.energy
        assert torch.isfinite(energy).all()
        assert (energy >= 0).all()
        assert (energy[:-1] >= energy[1:]).all()


def full_rank_gives_the_dense_outputs(basis: str, net: str) -> None:
    """Nothing is lost where no component is dropped."""
    found = _made(basis, net)
    model = network(net)
    chosen = plan(found, Ranks(tuple(spectrum.largest for spectrum in found)))
    torch.testing.assert_close(
        compress(model, found, chosen)(inputs()), model(inputs()), rtol=1e-9, atol=1e-9
    )


def components_are_dual_to_their_vectors(basis: str, net: str) -> None:
    """Truncating twice at one rank is truncating once."""
    for spectrum in _made(basis, net):
        duals, vectors = (
            part.unflatten(0, (spectrum.groups, -1)) for part in (spectrum.duals, spectrum.vectors)
        )
        product = duals.mT @ vectors
        one = torch.eye(product.shape[-1], dtype=product.dtype).expand_as(product)
        torch.testing.assert_close(product, one, rtol=0, atol=1e-6)


def metrics_are_symmetric_and_positive(basis: str, net: str) -> None:
    """The cost of an error does not depend on its sign, and is never a gain."""
    model = network(net)
    sites = find_sites(model)
    for name, metric in BASES[basis].metrics(model, sites, [inputs()]).items():
        assert metric.shape == (sites[name].matrix @ sites[name].matrix.mT).shape
        assert metric.dtype == torch.float64
        torch.testing.assert_close(metric, metric.mT)
        values = torch.linalg.eigvalsh(metric)
        assert values.min() >= -1e-9 * values.max().clamp_min(1e-30)


CHECKS: dict[str, Callable[[str, str], None]] = {
    check.__name__: check
    for check in (
        its_range_is_of_shares,
        inputs_are_taken_where_they_are_needed,
        energy_descends_from_the_first_component,
        full_rank_gives_the_dense_outputs,
        components_are_dual_to_their_vectors,
        metrics_are_symmetric_and_positive,
    )
}


def _made(basis: str, net: str) -> Spectra:
    return spectra(network(net), inputs() if BASES[basis].calibrated else None, basis=basis)
