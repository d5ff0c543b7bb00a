"""Which changes a sweep on file takes, and what keeps it from going on."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data import Dataset
from sweeps.config import ConfigError, SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.run.resuming import prepare_resume
from sweeps.run.runner import ResumeError

REFERENCE = (17_226, 17_024)


@pytest.fixture
def ledger(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_config: Callable[..., SweepConfig],
    digits: Dataset,
) -> Ledger:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Ledger.create(tmp_path, new_config("search.trials=3"), digits, REFERENCE)


def test_a_sweep_goes_on_as_it_is(ledger: Ledger, digits: Dataset) -> None:
    prepared = prepare_resume(ledger)
    assert prepared.config == ledger.config
    assert prepared.dataset.hash == digits.hash
    assert prepared.home == ledger.home
    assert prepared.ledger is ledger


@pytest.mark.parametrize(
    "overrides",
    [
        ("search.trials=200",),
        ("select.max_drop=0.1", "select.confidence=0.9"),
        ("resources.cpu=2", "resources.pack=4"),
    ],
)
def test_more_members_other_resources_and_another_choice_can_be_asked_for(
    ledger: Ledger, overrides: tuple[str, ...]
) -> None:
    before = (ledger.path / "sweep.yaml").read_bytes()
    prepared = prepare_resume(ledger, overrides)
    assert prepared.config == ledger.changed_config(overrides) != ledger.config
    assert (ledger.path / "sweep.yaml").read_bytes() == before  # nothing is changed until it runs


def test_a_change_in_the_file_is_refused_like_one_in_the_command(ledger: Ledger) -> None:
    path = ledger.path / "sweep.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"epochs: \d+", "epochs: 77", text))
    assert ledger.config != ledger.begun_config
    with pytest.raises(ResumeError, match=r"training.epochs cannot be changed"):
        prepare_resume(ledger)
    path.write_text(text.replace("trials: 3", "trials: 5"))
    assert prepare_resume(ledger).config.search.trials == 5
    # a sweep of an earlier version did not keep how it began
    path.write_text(re.sub(r"epochs: \d+", "epochs: 77", text))
    (ledger.path / "begun.yaml").unlink()
    assert prepare_resume(ledger).config == ledger.config


# name: overrides, the text that must be in the message
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "another network": (("model.hidden=[8]",), "model.hidden cannot be changed"),
    "another sampler": (("search.sampler=random",), "search.sampler cannot be changed"),
    "another seed": (("search.seed=7",), "search.seed cannot be changed"),
    "a key that was left out": (("training.seed=7",), "training.seed cannot be changed"),
    "several": (
        ("search.trials=9", "training.epochs=3", "name=other"),
        "name, training.epochs cannot be changed in a sweep that exists",
    ),
    "other data": (("dataset.seed=1",), "dataset.seed cannot be changed"),
}


@pytest.mark.parametrize(("overrides", "text"), REFUSED.values(), ids=REFUSED)
def test_changes_that_members_on_file_would_not_fit_are_refused(
    ledger: Ledger, overrides: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ResumeError) as caught:
        prepare_resume(ledger, overrides)
    assert text in str(caught.value)
    assert "search.trials, resources.* and select.* can be" in str(caught.value)


def test_a_change_that_is_faulty_is_refused_like_in_any_sweep(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match=r"search\.trials: got 0, must be a whole number >= 1"):
        prepare_resume(ledger, ("search.trials=0",))


def test_other_data_is_refused_with_both_hashes(ledger: Ledger, digits: Dataset) -> None:
    path = ledger.path / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_hash": "ab" * 32}))
    with pytest.raises(
        ResumeError, match=rf"content hash {digits.hash[:12]}…, sweep .+ was run on abababababab…"
    ):
        prepare_resume(ledger)
