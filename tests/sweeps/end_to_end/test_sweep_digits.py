"""One real sweep: what the command prints and files, and what the other commands read of it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import arsvd
from arsvd import evaluate
from arsvd.data import Dataset
from sweeps.cli import main
from sweeps.config.on_record import RECORD_VERSION
from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.records import FINISHED, Front
from sweeps.ledger.storage import file_sha256
from sweeps.report.numbers import shown
from sweeps.run.finish import Models

ALIASES = ("best", "smallest", "most-accurate")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


# --- what the command printed ---------------------------------------------------------------------


def test_the_command_prints_the_front_and_what_to_do_next(sweep: Any) -> None:
    out, ledger = sweep.done.stdout, sweep.ledger
    assert out.startswith(
        f"front of {ledger.facts.id}\naccuracies on 288 validation images and 359 test images\n"
    )
    cells = [line.split() for line in out.splitlines()]
    (reference,) = [row for row in cells if row[:2] == ["reference", "17,226"]]
    assert "-" not in reference[2:]  # it is a member, trained and tested
    assert sweep.front.reference.number == 0
    assert any(row[:2] == ["best", "dense"] for row in cells)
    for entry in sweep.front.points:
        assert re.search(rf"^\*? +{entry.point.params:,} ", out, re.MULTILINE), entry
    assert out.count("\n*") == 1
    assert "fixed rank" in out
    assert "weight energy" in out
    for alias in ALIASES:
        assert re.search(rf"^{alias}: +arsvd-digits version \d+: [\d,]+ parameters", out, re.MULTILINE)
    report = re.search(r"^report +(.*)$", out, re.MULTILINE)
    assert report is not None
    assert Path(report[1]).is_file()
    assert "arsvd ui" in out
    load = re.search(r"^load +(.*)$", out, re.MULTILINE)
    assert load is not None
    said: dict[str, Any] = {}
    exec(load[1], said)  # what is printed works as printed
    assert sweep.front.best is not None
    assert sum(p.numel() for p in said["model"].parameters()) == sweep.front.best.point.params


def test_the_command_tells_its_progress_on_stderr(sweep: Any) -> None:
    lines = [line for line in sweep.done.stderr.splitlines() if line.startswith("members ")]
    assert 1 <= len(lines) <= 81  # one every five seconds at most
    assert re.match(rf"members \d of {sweep.members} \| epochs \d+ of \d+", lines[0])
    epochs = sum(record.config.epochs for record in sweep.ledger.members())
    done = f"members {sweep.members} of {sweep.members} | epochs {epochs} of {epochs} | points "
    assert lines[-1].startswith(done)
    # nothing but our own lines: no warning, no table of Tune, no traceback
    steps = ("members ", "registering models | ")
    others = [line for line in sweep.done.stderr.splitlines() if not line.startswith(steps)]
    assert [line.split()[0] for line in others] == ["loading", "data", "sweep", "measuring", "logging"]


# --- the ledger -----------------------------------------------------------------------------------


def test_the_ledger_holds_every_member_whole(sweep: Any, digits: Dataset) -> None:
    ledger = sweep.ledger
    records = ledger.members()
    assert len(records) == sweep.members
    assert len({record.key for record in records}) == sweep.members
    assert ledger.facts.data_hash == digits.hash
    for record in records:
        assert record.status == FINISHED
        assert record.key == record.config.key(digits.hash)
        assert file_sha256(ledger.weights(record.key)) == record.weights_sha256
        assert len(record.curves["validation_accuracy"]) == sweep.epochs
        assert record.config.finetune_epochs == 1
    assert {path.name for path in ledger.path.iterdir()} == {
        *(
            "sweep.yaml",
            "begun.yaml",
            "sweep.json",
            "provenance.json",
            "study.journal",
            "front.json",
            "data.json",
        ),
        *("members", "asked", "report"),
    }
    assert len(list((ledger.path / "members").iterdir())) == 2 * sweep.members


def test_the_study_was_told_every_member_and_its_journal_names_the_objectives(sweep: Any) -> None:
    ledger = sweep.ledger
    storage = JournalStorage(JournalFileBackend(str(ledger.path / "study.journal")))
    study = optuna.load_study(study_name=ledger.facts.id, storage=storage)
    assert study.metric_names == ["accuracy", "params"]
    trials = study.trials
    asked = {trial.number: trial for trial in trials}
    # the reference is none of the few widths that this sweep searches
    assert asked[0].state == optuna.trial.TrialState.FAIL
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials if trial.number)
    assert set(asked) == {record.number for record in ledger.members()}
    for record in ledger.members():
        assert record.asked is not None
        if record.number:
            assert asked[record.number].values == [record.asked.accuracy, record.asked.params]


def test_the_front_follows_from_the_ledger_alone(sweep: Any) -> None:
    ledger, front = sweep.ledger, sweep.front
    facts = ledger.facts
    again = sweep_front(
        ledger.members(), facts.reference, ledger.config.select.max_drop, facts.validation_images
    )
    assert [(e.key, e.number, e.point) for e in again.points] == [
        (e.key, e.number, e.point) for e in front.points
    ]
    assert again.hypervolume == front.hypervolume
    assert again.baselines == front.baselines
    assert len(front.points) >= 5


def test_best_holds_at_the_confidence_that_the_sweep_file_asks_for(sweep: Any) -> None:
    front, select = sweep.front, sweep.ledger.config.select
    assert select.confidence == 0.95
    for entry in front.points:
        assert entry.assured is not None
        assert entry.assured <= entry.point.accuracy
    assert front.best is not None
    assert front.best.counted >= front.dense_accuracy - select.max_drop
    smaller = [entry for entry in front.points if entry.point.params < front.best.point.params]
    assert all(entry.counted < front.dense_accuracy - select.max_drop for entry in smaller)


def test_test_figures_are_those_of_the_final_front_and_of_nothing_else(sweep: Any, digits: Dataset) -> None:
    ledger, front = sweep.ledger, sweep.front
    models = Models(ledger, digits, ledger.members())
    images = digits.test.images.float() / 255
    for entry in front.points:
        assert entry.test is not None
        reached = evaluate(models.build(entry), images, digits.test.labels)
        assert reached.accuracy == pytest.approx(entry.test.accuracy, abs=1.5 / len(digits.test))
    for baseline in front.baselines.values():
        assert baseline.points
        assert all(entry.test is None for entry in baseline.points)
    for path in (ledger.path / "members").glob("*.json"):
        assert "test" not in path.read_text()


# --- the commands that read -----------------------------------------------------------------------


def test_list_and_show(sweep: Any) -> None:
    name, front = sweep.ledger.facts.id, sweep.front
    (row,) = json.loads(invoke("list", "--json"))
    assert (row["sweep"], row["state"]) == (name, "finished")
    assert (row["members"], row["trials"], row["failed"]) == (sweep.members, sweep.members, 0)
    assert row["hypervolume"] == pytest.approx(front.hypervolume)
    text = invoke("list")
    assert name in text
    assert f"{sweep.members}/{sweep.members}" in text
    told = json.loads(invoke("show", "digits-2", "--json"))  # a beginning of the id
    assert told["front"] == shown(front.to_dict())
    assert len(Front.from_dict(told["front"]).points) == len(front.points)
    table = invoke("show", name)
    assert table in sweep.done.stdout  # the sweep printed the same


def test_best_is_found_by_drop_and_by_size_and_exported(sweep: Any, tmp_path: Path, digits: Dataset) -> None:
    front = sweep.front
    best = json.loads(invoke("best", "digits", "--json"))
    assert front.best is not None
    assert best["params"] == front.best.point.params
    strict = CliRunner().invoke(main, ["best", "digits", "--max-drop", "0.0000001", "--json"])
    sure = [entry for entry in front.points if entry.counted >= front.dense_accuracy]
    if sure:
        assert json.loads(strict.stdout)["params"] == sure[0].point.params
    else:
        assert strict.exit_code == 2
        assert strict.stderr.startswith("arsvd: no model is within 1e-07 of the best dense")
    limit = front.points[len(front.points) // 2].point.params
    target = tmp_path / "small.safetensors"
    sized = json.loads(
        invoke("best", "digits", "--max-params", str(limit), "--export", str(target), "--json")
    )
    assert sized["params"] == limit
    model = arsvd.load(target)
    assert sum(p.numel() for p in model.parameters()) == limit
    reached = evaluate(model, digits.validation.images.float() / 255, digits.validation.labels)
    assert reached.accuracy == pytest.approx(sized["validation_accuracy"], abs=1.5 / len(digits.validation))
    text = invoke("best", "digits")
    assert f'mlflow.pytorch.load_model("{best["uri"]}")' in text
    none = CliRunner().invoke(main, ["best", "digits", "--max-params", "1"])
    assert none.exit_code == 2
    assert re.fullmatch(r"arsvd: no model has at most 1 parameters; the closest, .*\n", none.stderr)


def test_what_is_filed_is_plain_json(sweep: Any) -> None:
    checked = 0
    for path in sweep.ledger.path.rglob("*.json"):
        values: Any = json.loads(path.read_text(), parse_constant=pytest.fail)
        if path.name == "provenance.json":  # tags for MLflow, which are text
            assert all(isinstance(value, str) for value in values.values())
            continue
        assert values["version"] == RECORD_VERSION
        checked += 1
    assert checked == 2 * sweep.members + 3  # what was asked, and what it came to
    assert math.isfinite(sweep.front.hypervolume)
