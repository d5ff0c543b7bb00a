"""Every operating point of a member can be rebuilt from its file as it was measured."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import arsvd
from arsvd import OperatingPoint, evaluate
from arsvd.candidates.refit import FAMILY as REFIT
from arsvd.files.serialization import read_tensors, write_tensors
from arsvd.fronts import pareto
from sweeps.ledger.records import RECOVERED, MemberRecord
from sweeps.trial.weights import MemberWeights, load_member, save_member
from sweeps.trial.workbench import Workbench

Trained = list[tuple[MemberRecord, MemberWeights]]


# name: what a header says of a whole member's tensors, the error's text
CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "terabytes": ({"dense": [[10**6, 10**6]]}, "the dense model does not fit its tensors"),
    "no layers": ({"dense": []}, "has no layers of two or three"),
    "a layer of four": ({"dense": [[2, 2, 2, 2]]}, "has no layers of two or three"),
    "layers that do not meet": ({"dense": [[2, 2], [3, 2]]}, "do not follow one another"),
    "a width in words": ({"dense": [["2", 2], [2, 2]]}, "dense got '2', must be a whole number"),
    "a width of nothing": ({"dense": [[2, 0], [0, 2]]}, "dense got 0, must be at least 1"),
    "no spectra": ({"spectra": None}, "spectra got None, must be a mapping"),
    "a spectrum of other layers": (
        {"spectra": {"weight": {"other_params": 0, "layers": [["linear9", 2, 2, True]]}}},
        "lacks the tensor 'weight.linear9.vectors'",
    ),
    "a spectrum of another size": (
        {"spectra": {"weight": {"other_params": 0, "layers": [["linear1", 10**9, 2, True]]}}},
        "the weight spectrum of linear1 has tensors of other shapes",
    ),
    "models that are none": ({"fitted": [["refit"]]}, "fitted got list, must be a list of 2"),
}


@pytest.mark.parametrize(("change", "text"), CLAIMS.values(), ids=CLAIMS)
def test_a_header_that_contradicts_the_tensors_is_refused(
    tmp_path: Path, change: dict[str, object], text: str
) -> None:
    network = arsvd.MLP([2, 2, 2])
    path = tmp_path / "member.safetensors"
    save_member(path, MemberWeights(network, {"weight": arsvd.spectra(network)}, {}))
    header, tensors = read_tensors(path)
    write_tensors(path, tensors, {**header, **change})
    with pytest.raises(ValueError, match=text):
        load_member(path)


@pytest.fixture(scope="module")
def loaded(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The members of `trained`, with their weights read back from their files."""
    folder = tmp_path_factory.mktemp("members")
    pairs = []
    for record, weights in trained:
        path = folder / f"{record.key}.safetensors"
        save_member(path, weights)
        pairs.append((record, load_member(path)))
    assert len(list(folder.iterdir())) == len(trained) == 4
    return pairs


def stored_numbers(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("source", ["trained", "loaded"], ids=["in memory", "from its file"])
def test_every_point_is_rebuilt_as_it_was_measured(
    request: pytest.FixtureRequest, source: str, workbench: Workbench
) -> None:
    members: Trained = request.getfixturevalue(source)
    inputs, labels = workbench.validation
    seen: Counter[str] = Counter()
    for record, weights in members:
        assert record.asked is not None
        for point in (record.asked, *record.points):
            model = copy.deepcopy(weights.build(point)).to(workbench.device)
            assert stored_numbers(model) == point.params, point
            reached = evaluate(model, inputs, labels)
            # one image may lie so near a boundary that float32 factors decide it otherwise
            assert abs(reached.accuracy - point.accuracy) * len(labels) < 1.5, point
            assert reached.loss == pytest.approx(point.loss, rel=1e-3, abs=1e-4)
            seen[point.family] += 1
    assert set(seen) >= {"dense", "energy", "entropy", "budget", "local", REFIT, RECOVERED}
    assert seen["dense"] >= 4
    assert seen[RECOVERED] >= 3
    assert sum(seen.values()) > 100


def test_baselines_are_rebuilt_too(loaded: Trained, workbench: Workbench) -> None:
    inputs, labels = workbench.validation
    record, weights = loaded[0]
    rebuilt = 0
    for points in record.baselines.values():
        for point in pareto(points):
            model = copy.deepcopy(weights.build(point)).to(workbench.device)
            assert stored_numbers(model) == point.params
            reached = evaluate(model, inputs, labels).accuracy
            assert abs(reached - point.accuracy) * len(labels) < 1.5
            rebuilt += 1
    assert rebuilt > 10


def test_a_rebuilt_model_maps_images_to_logits_once_it_is_whole(
    loaded: Trained, workbench: Workbench
) -> None:
    split = workbench.dataset.validation
    record, weights = loaded[0]
    point = pareto(record.points)[0]
    model = arsvd.whole(weights.build(point), workbench.dataset.mean, workbench.dataset.std)
    reached = evaluate(model, split.images.cpu().float() / 255, split.labels.cpu())
    assert abs(reached.accuracy - point.accuracy) * len(split) < 1.5


def test_the_file_holds_the_whole_member(trained: Trained, loaded: Trained) -> None:
    for (_, before), (_, after) in zip(trained, loaded, strict=True):
        assert not after.dense.training
        for name, tensor in before.dense.state_dict().items():
            assert torch.equal(after.dense.state_dict()[name], tensor), name
        assert set(after.spectra) == set(before.spectra) == {"weight", "activation", "loss"}
        assert set(after.fitted) == set(before.fitted)
        assert before.fitted
        for key, model in before.fitted.items():
            for name, tensor in model.state_dict().items():
                assert torch.equal(after.fitted[key].state_dict()[name], tensor), name


def test_basis_vectors_are_kept_up_to_break_even(loaded: Trained) -> None:
    for spectrum in (s for _, weights in loaded for found in weights.spectra.values() for s in found):
        kept = spectrum.vectors.shape[1]
        assert spectrum.duals.shape == spectrum.vectors.shape
        out, into = spectrum.out_features, spectrum.in_features
        assert kept * (out + into) < out * into or kept == 0
        assert (kept + 1) * (out + into) + out >= out * into


def test_points_that_the_file_does_not_hold_are_refused(loaded: Trained) -> None:
    record, weights = loaded[0]
    (some, *_) = (point for point in record.points if point.basis is not None)
    for family in (RECOVERED, REFIT):
        with pytest.raises(ValueError, match=rf"no {family} point with the ranks \(99, 99, 99\)"):
            weights.build(replace(some, family=family, ranks=(99, 99, 99)))
    bare = replace(weights, spectra={"weight": weights.spectra["weight"]})
    with pytest.raises(ValueError, match="no spectra in the activation basis"):
        bare.build(replace(some, basis="activation"))


def test_a_member_that_is_too_small_to_compress_survives_its_file(tmp_path: Path) -> None:
    network = arsvd.MLP([2, 2, 2])
    point = OperatingPoint((None, None), 12, 8, 0.5, 0.5, 0.7, "dense", None, None)
    spectra = {"weight": arsvd.spectra(network)}
    save_member(tmp_path / "m.safetensors", MemberWeights(network, spectra, {}))
    again = load_member(tmp_path / "m.safetensors").build(point)
    inputs = torch.rand(5, 2)
    assert torch.equal(again(inputs), network(inputs))


def test_files_that_hold_something_else_are_refused(loaded: Trained, tmp_path: Path) -> None:
    _, weights = loaded[0]
    whole = tmp_path / "member.safetensors"
    save_member(whole, weights)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_member(tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut.safetensors is not a whole safetensors file"):
        load_member(cut)
    model = tmp_path / "model.safetensors"
    arsvd.save(weights.dense, model)
    with pytest.raises(ValueError, match="does not hold a member's weights"):
        load_member(model)
    future = tmp_path / "future.safetensors"
    write_tensors(future, {"a": torch.zeros(1)}, {"version": 3, "kind": "arsvd member"})
    with pytest.raises(ValueError, match="is of format 3; this release reads format 1 and 2"):
        load_member(future)
