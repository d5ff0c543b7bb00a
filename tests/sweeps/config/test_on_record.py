"""Records outlive a release: what a missing key means, keys of members, and versions that are newer."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from arsvd.candidates import CANDIDATES
from arsvd.options import Option
from arsvd.options.kinds import Number
from sweeps.cli import main
from sweeps.config import ConfigError, MemberConfig, load_config, on_record, parse_config
from sweeps.config.member import member_class
from sweeps.config.on_record import RECORD_VERSION, RETIRED, settle
from sweeps.config.options import member_options, options
from sweeps.ledger.ledger import Ledger, NewerError, sweep_ids
from sweeps.ledger.records import Front, MemberRecord, SweepFacts
from sweeps.ledger.standing import find_damage, standing_front
from sweeps.run.mending import whole_members

RELEASE = Path(__file__).parents[2] / "data" / "release-0.1.0"
FINISHED, CUT = "digits-20261126-022810-ccec", "digits-20261126-023154-8605"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the sweeps of release 0.1.0."""
    shutil.copytree(RELEASE, tmp_path / "home")
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# the members of a release that has one more option, whose default is not its absence
NUCLEAR = Option("training.nuclear", Number(0), "made up", default=0.25, absent=0.0, member=True)
LaterConfig = member_class({**member_options(), "nuclear": NUCLEAR})


def test_every_key_of_a_sweep_file_says_what_it_is_and_what_its_absence_means() -> None:
    assert len(options()) > 40
    assert all(option.help for option in options().values())
    assert not RETIRED.keys() & options().keys()


@pytest.mark.parametrize("sweep", [FINISHED, CUT])
def test_a_new_option_leaves_records_and_keys_of_before_alone(sweep: str) -> None:
    ledger = Ledger.open(RELEASE, sweep)
    assert ledger.facts.version == 1
    records = [json.loads(path.read_bytes()) for path in sorted((ledger.path / "members").glob("*.json"))]
    assert len(records) >= 4
    for values in records:
        config = LaterConfig.from_dict(values["config"])
        assert config.nuclear == 0.0
        assert config.key(ledger.facts.data_hash, version=1) == values["key"]
        later = dict.fromkeys(("nuclear", "lasso_weight"), 0.0)
        assert config.values() == {**values["config"], **later}


@given(
    factors=st.integers(1, 4),
    dropout=st.floats(0, 0.9),
    schedule=st.sampled_from(["onecycle", "cosine"]),
    flip=st.none() | st.booleans(),
    rule=st.sampled_from(["energy", "entropy"]),
    finetune_epochs=st.integers(0, 3),
    nuclear=st.floats(1e-6, 1),
)
def test_a_new_option_is_in_the_key_where_it_is_on(
    new_member: Callable[..., MemberConfig], nuclear: float, **values: Any
) -> None:
    before = new_member(**values)
    off = LaterConfig(**dataclasses.asdict(before), nuclear=0.0)
    on = dataclasses.replace(off, nuclear=nuclear)
    assert off.to_dict() == before.to_dict()
    assert off.key("data") == before.key("data") != on.key("data")
    assert off.key("data", version=1) == before.key("data", version=1)
    assert [LaterConfig.from_dict(config.to_dict()) for config in (off, on)] == [off, on]


def test_a_key_that_a_file_on_record_lacks_means_its_absence_and_not_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = dataclasses.replace(options()["compression.calibration"], absent=7)
    monkeypatch.setitem(options(), "compression.calibration", changed)
    path, less = Ledger.open(RELEASE, FINISHED).path / "sweep.yaml", tmp_path / "sweep.yaml"
    # what is gone, and refused in new files
    kept = path.read_text().replace(", inject: 0}", "}").replace(", per_layer]", "]")
    less.write_text(kept.replace("  calibration: 10000\n", ""))
    assert load_config(less, on_record=True).compression.calibration == 7
    assert load_config(less).compression.calibration == 10_000
    less.write_text(kept)
    assert load_config(path, on_record=True) == load_config(less)


@pytest.mark.parametrize(
    "mapping", [{}, {"model": 3}, {"model": None}, {"compression": {"distillation": "much"}}]
)
def test_values_other_than_sections_are_left_to_the_checks(mapping: dict[str, Any]) -> None:
    settle(mapping)
    with pytest.raises(ConfigError):
        parse_config(mapping)


@pytest.mark.parametrize(
    ("families", "kept"),
    [("[threshold, refit, per_layer]", ("threshold", "refit")), ("[per_layer]", CANDIDATES.names)],
)
def test_a_retired_family_is_dropped_on_record_and_refused_in_a_new_file(
    tmp_path: Path, families: str, kept: tuple[str, ...]
) -> None:
    path = tmp_path / "sweep.yaml"
    text = (Ledger.open(RELEASE, FINISHED).path / "sweep.yaml").read_text()
    path.write_text(text.replace("[threshold, refit, per_layer]", families))
    assert load_config(path, on_record=True).compression.families == kept
    with pytest.raises(
        ConfigError, match=r"compression\.families: got \[.*\], .*; per_layer: it is gone; local"
    ):
        load_config(path)


def test_a_retired_key_is_dropped_on_record_and_refused_in_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(on_record.RETIRED, "training.magic", "it never worked")
    path = tmp_path / "sweep.yaml"
    text = (Ledger.open(RELEASE, FINISHED).path / "sweep.yaml").read_text()
    path.write_text(text.replace("  epochs: 3\n", "  epochs: 3\n  magic: 5\n"))
    assert load_config(path, on_record=True) == Ledger.open(RELEASE, FINISHED).config
    for file, overrides in ((path, ()), (Path("digits"), ("training.magic=5",))):
        with pytest.raises(ConfigError, match=r"training\.magic: it never worked; remove it"):
            load_config(file, overrides)


def test_sweeps_of_release_0_1_0_are_listed_and_shown(old: Path) -> None:
    assert set(sweep_ids(old)) == {FINISHED, CUT}
    listed = CliRunner().invoke(main, ["list", "--json"])
    states = {row["sweep"]: row["state"] for row in json.loads(listed.stdout)}
    assert states == {FINISHED: "finished", CUT: "not finished"}
    for sweep in (FINISHED, CUT):
        shown = CliRunner().invoke(main, ["show", sweep, "--json"])
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert len(json.loads(shown.stdout)["front"]) >= 5
    families = {point.family for record in Ledger.open(old, FINISHED).members() for point in record.points}
    assert {"per_layer", "refit", "recovered"} <= families


@pytest.mark.parametrize(("sweep", "members"), [(FINISHED, 5), (CUT, 4)])
def test_nothing_of_release_0_1_0_is_set_aside(old: Path, sweep: str, members: int) -> None:
    ledger, said = Ledger.open(old, sweep), list[str]()
    records = whole_members(ledger, said.append)
    assert (len(records), said, find_damage(ledger)) == (members, [], [])
    assert not list(ledger.path.rglob("*.damaged*"))
    front, final = standing_front(ledger)
    assert final == (sweep == FINISHED)
    # and what is read is written again in this version, with nothing lost
    for record in records:
        assert MemberRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert Front.from_dict(json.loads(json.dumps(front.to_dict()))) == front
    assert SweepFacts.from_dict(ledger.facts.to_dict()) == ledger.facts


# name: the file of the finished sweep that is of a newer version, what reads it
NEWER: dict[str, tuple[str, Callable[[Ledger], object]]] = {
    "a member": ("members/4aa634a1a5a529ef55d6.json", lambda ledger: whole_members(ledger, pytest.fail)),
    "the front": ("front.json", lambda ledger: whole_members(ledger, pytest.fail)),
    "the facts": ("sweep.json", lambda ledger: ledger.facts),
    "a sweep file with keys of its own": ("sweep.json", lambda ledger: ledger.config),
}


@pytest.mark.parametrize(("name", "read"), NEWER.values(), ids=NEWER)
def test_a_newer_version_is_named_as_such_and_nothing_is_set_aside(
    old: Path, name: str, read: Callable[[Ledger], object], request: pytest.FixtureRequest
) -> None:
    ledger = Ledger.open(old, FINISHED)
    path = ledger.path / name
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "version": RECORD_VERSION + 1, "colour": "red"}))
    if "keys of its own" in request.node.name:
        with (ledger.path / "sweep.yaml").open("a") as file:
            file.write("colour: red\n")
    before = {path: path.read_bytes() for path in ledger.path.rglob("*") if path.is_file()}
    text = rf"{path} is a .* of version {RECORD_VERSION + 1}, written by a newer release than this one"
    with pytest.raises(NewerError, match=text) as caught:
        read(ledger)
    listed = CliRunner().invoke(main, ["list"])
    assert "of a newer release" in listed.output
    assert "damaged" not in listed.output
    shown = CliRunner().invoke(main, ["show", FINISHED])
    assert str(caught.value) in shown.stderr
    assert "damaged" not in shown.stderr
    assert "resume" not in shown.stderr
    assert {path: path.read_bytes() for path in ledger.path.rglob("*") if path.is_file()} == before


def test_fields_that_every_record_holds_are_required() -> None:
    assert sum(option.always for option in options().values()) > 20
    with pytest.raises(ValueError, match="missing field hidden"):
        MemberConfig.from_dict({})
