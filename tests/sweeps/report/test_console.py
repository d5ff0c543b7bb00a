"""What the commands print, and the JSON that scripts read."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import arsvd
from arsvd.coverage import Coverage
from arsvd.data import Dataset
from mlflow_server.settings import DEFAULT_PORT
from sweeps.config import SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FAILED, Front, MemberRecord, TestMetrics
from sweeps.ledger.standing import standing_front
from sweeps.report.console import (
    outcome_json,
    print_front,
    print_outcome,
    print_plan,
    print_sweeps,
    print_version,
    sweep_rows,
)
from sweeps.tracking import RegisteredVersion
from sweeps.tracking.links import run_page

REFERENCE = (17_226, 17_024)
LOCAL = ("sqlite:////home/mlflow.db", run_page("1", "abc"))


@pytest.fixture
def new_sweep(
    tmp_path: Path,
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> Callable[..., Ledger]:
    """A sweep of four members, one of them failed; finished or not."""

    def make(finished: bool = True, home: Path = tmp_path) -> Ledger:
        ledger = Ledger.create(home, new_config("search.trials=4", "select.max_drop=0.02"), digits, REFERENCE)
        ledger.write_member(new_record(0, [(900, 0.90), (2_000, 0.94)], dense=0.95))
        ledger.write_member(new_record(1, dense=None, asked=None, status=FAILED, cause="diverged"))
        ledger.write_member(new_record(2, [(1_000, 0.91), (3_000, 0.955)], dense=0.95))
        if finished:
            front = standing_front(ledger)[0]
            points = tuple(p.with_test(TestMetrics(0.8888, 0.88, 0.4)) for p in front.points)
            best = None if front.best is None else points[front.points.index(front.best)]
            ledger.write_front(replace(front, points=points, best=best))
        return ledger

    return make


@pytest.fixture
def version() -> RegisteredVersion:
    return RegisteredVersion(
        name="arsvd-digits",
        version=3,
        sweep="digits-1",
        member="ab12",
        data_hash="cd" * 32,
        ranks=(4, None),
        basis="activation",
        family="energy",
        params=2_000,
        macs=1_900,
        validation_accuracy=0.94,
        dense_accuracy=0.95,
        assured_accuracy=0.935,
        test_accuracy=0.9311,
        sha256="ef" * 32,
        model_id="m-1",
    )


def printed(write: Callable[[Console], None], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    write(console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def show(ledger: Ledger) -> str:
    front, final = standing_front(ledger)
    return printed(lambda console: print_front(console, ledger.facts, front, final))


def test_a_final_front_is_shown_with_test_figures_and_baselines(new_sweep: Callable[..., Ledger]) -> None:
    ledger = new_sweep()
    text = show(ledger)
    assert text.startswith(f"front of {ledger.facts.id}\n")
    assert "accuracies on 288 validation images\n" in text
    cells = [line.split() for line in text.splitlines()]
    # members 0 and 2 have one accuracy, and the first counts; none is of the reference's shape
    assert ["reference", "17,226", "1.0x", "0.1x", "-", "-"] in cells
    assert ["best", "dense", "1,000", "17.2x", "1.0x", "95.00", "-"] in cells
    assert ["best", "2,000", "8.6x", "0.5x", "94.00", "88.88"] in cells
    for figure in ("900", "2,000", "3,000", "88.88", "90.00", "95.50"):
        assert figure in text
    assert "fixed rank" in text
    assert "weight energy" in text
    assert "so far" not in text


def test_a_front_so_far_has_no_test_figures_and_says_so(new_sweep: Callable[..., Ledger]) -> None:
    text = show(new_sweep(finished=False))
    assert "front so far (the sweep has not ended; no test figures)" in text
    assert "88.88" not in text
    assert "3,000" in text


def test_a_sweep_without_members_says_so(
    tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset
) -> None:
    text = show(Ledger.create(tmp_path, new_config(), digits, REFERENCE))
    assert text.endswith("no member has finished yet\n")
    assert "0.00%" not in text


def test_an_outcome_says_what_to_do_next(
    new_sweep: Callable[..., Ledger], version: RegisteredVersion
) -> None:
    ledger = new_sweep()
    front = ledger.front()
    assert front is not None
    aliases = {"best": version, "smallest": replace(version, version=1, params=900, test_accuracy=None)}
    text = printed(lambda console: print_outcome(console, ledger, front, aliases, 1, *LOCAL), width=60)
    assert f"members failed: 1; the causes are in {ledger.path / 'members'} and in MLflow\n" in text
    assert "best:          arsvd-digits version 3: 2,000 parameters, validation 94.00%, test 93.11%\n" in text
    assert "smallest:      arsvd-digits version 1: 900 parameters, validation 94.00%\n" in text
    # whole, however narrow the terminal: it is there to be copied
    assert f"report   {ledger.path / 'report' / 'front.html'}\n" in text
    assert f"browse   arsvd ui {ledger.facts.id}\n" in text
    assert f"page     http://127.0.0.1:{DEFAULT_PORT}/{LOCAL[1]} (while arsvd ui runs)\n" in text
    assert 'load     from sweeps import load_best; model = load_best("digits", max_drop=0.02)\n' in text
    assert f"again    arsvd show {ledger.facts.id}\n" in text


def test_an_outcome_without_a_best_model_says_so_and_how_to_load_another(
    new_sweep: Callable[..., Ledger], version: RegisteredVersion
) -> None:
    ledger = new_sweep()
    front = ledger.front()
    assert front is not None
    text = printed(lambda c: print_outcome(c, ledger, front, {"most-accurate": version}, 0, *LOCAL))
    assert "best:          none is surely within 0.02 of the best dense member\n" in text
    assert 'model = load_best("digits", alias="most-accurate")\n' in text


def test_with_a_server_the_outcome_leads_to_the_run_and_tells_no_password(
    new_sweep: Callable[..., Ledger],
) -> None:
    ledger = new_sweep()
    front = ledger.front()
    assert front is not None
    server = "https://me:secret@mlflow.example.org/team/"
    text = printed(lambda c: print_outcome(c, ledger, front, {}, 0, server, run_page("7", "abc")))
    link = "https://mlflow.example.org/team/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert f"browse   {link}\n" in text


def test_brackets_in_paths_are_not_markup(
    tmp_path: Path, new_sweep: Callable[..., Ledger], version: RegisteredVersion
) -> None:
    home = tmp_path / "[red]my[/red] models [bold]"
    ledger = new_sweep(home=home)
    front = ledger.front()
    assert front is not None
    text = printed(lambda console: print_outcome(console, ledger, front, {}, 0, *LOCAL))
    assert str(ledger.path / "report" / "front.html") in text
    export = home / "m.safetensors"
    assert f'arsvd.load("{export}")' in printed(lambda console: print_version(console, version, export))
    empty = printed(lambda console: print_sweeps(console, [], home))
    assert empty == f"no sweeps in {home} yet; begin with: arsvd sweep digits\n"


def test_a_version_is_printed_with_its_address_and_the_server_that_has_it(
    version: RegisteredVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@models.example")
    assert printed(lambda console: print_version(console, version, None)) == (
        "arsvd-digits version 3: 2,000 parameters, validation 94.00%, test 93.11%\n"
        'load     import mlflow; mlflow.set_tracking_uri("https://models.example"); '
        'model = mlflow.pytorch.load_model("models:/arsvd-digits/3")\n'
    )


def test_a_version_of_deep_images_says_what_its_input_is(version: RegisteredVersion) -> None:
    deep = replace(version, scale=4095.0)
    text = printed(lambda console: print_version(console, deep, None))
    assert "; its input is the images' levels divided by 4095\n" in text


def test_a_plan_is_printed_layer_by_layer(tmp_path: Path) -> None:
    plan = arsvd.plan(arsvd.spectra(arsvd.MLP([64, 32, 10])), arsvd.Ranks((5, None)))
    lines = printed(lambda console: print_plan(console, plan, tmp_path / "m")).splitlines()
    assert lines[1].split()[1:5] == ["32", "x", "64", "5"]
    assert lines[2].split()[4:6] == ["dense", "1.0000"]
    assert lines[3] == "2,410 -> 842 parameters (2.9x), weight basis"
    assert lines[4] == "covers 2 of 2 layers, 100.0 % of the numbers, 100.0 % of the MACs"


def test_layers_outside_a_plan_are_reported(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), *(nn.Linear(144, 144) for _ in range(8)))
    for number in range(3, 9):
        model[number].weight = model[2].weight
    plan = arsvd.plan(arsvd.spectra(model, torch.randn(3, 1, 8, 8)), arsvd.Energy(0.9))
    lines = printed(lambda console: print_plan(console, plan, tmp_path / "m")).splitlines()
    ties = " (its weight is tied to "
    # the convolution's 40 numbers and 36 x 36 multiplications, the last layer's 20,880 and 20,736
    # of 42,664 numbers and 8 x 20,736 + 36 x 36 multiplications
    shares = "49.0 % of the numbers, 13.1 % of the MACs"
    (line,) = (line for line in lines if line.startswith("covers"))
    assert line.startswith(f"covers 2 of 9 layers, {shares}; left dense: 2{ties}")
    assert line.count(ties) == 5
    assert line.endswith(" and 2 more")
    nearly = replace(plan, coverage=Coverage(99_999, 100_000))
    text = printed(lambda console: print_plan(console, nearly, tmp_path / "m"))
    assert "covers 2 of 2 layers, 99.9 % of the numbers\n" in text
    before = replace(plan, coverage=None)
    assert "covers" not in printed(lambda console: print_plan(console, before, tmp_path / "m"))


def test_sweeps_are_listed_oldest_first_and_damaged_ones_named(
    tmp_path: Path, new_sweep: Callable[..., Ledger]
) -> None:
    done, running, broken, unreadable = (new_sweep(finished=flag) for flag in (True, False, True, True))
    for age, ledger in enumerate((unreadable, broken, running, done)):
        os.utime(ledger.path / "sweep.json", (1e9 - age, 1e9 - age))
    next((broken.path / "members").glob("*.json")).write_text("{")
    (unreadable.path / "sweep.yaml").write_text("dataset: 3")
    rows = sweep_rows(tmp_path)
    assert [row["sweep"] for row in rows] == [one.facts.id for one in (done, running, broken, unreadable)]
    assert [row["state"] for row in rows] == ["finished", "not finished", "damaged", "damaged"]
    first = rows[0]
    assert (first["members"], first["failed"], first["trials"]) == (3, 1, 4)
    assert (first["best_params"], first["best_accuracy"]) == (2_000, 0.94)
    assert first["dataset"] == "digits"
    json.dumps(rows, allow_nan=False)

    text = printed(lambda console: print_sweeps(console, rows, tmp_path))
    assert "3/4 (1 failed)" in text
    assert "2,000 at 94.00%" in text
    assert [line.split()[0] for line in text.splitlines() if line.rstrip().endswith(" damaged")] == [
        broken.facts.id,
        unreadable.facts.id,
    ]
    assert str(broken.path / "members") in text
    assert all(len(line) <= 120 for line in text.splitlines()[:5])


def field(name: str, **changes: object) -> Callable[[Path], object]:
    """Change fields of the JSON files of a name in a sweep's folder."""

    def change(folder: Path) -> None:
        for path in folder.glob(name):
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def whole(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: [path.write_text(content) for path in folder.glob(name)]


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Put something that is no file in a file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


# name: what somebody did to a sweep's folder; each once ended `arsvd list` for all sweeps of the home
STRANGE: dict[str, Callable[[Path], object]] = {
    "a number of another type": field("members/*.json", number="first"),
    "a number that is none": whole("sweep.json", '{"version": 1, "id": NaN}'),
    "facts that are too deep": whole("sweep.json", "[" * 100_000),
    "a member that is too deep": whole("members/*.json", '{"a":' * 100_000),
    "a data set that is a list": field("sweep.json", dataset=[]),
    "a data set that is a number": field("sweep.json", dataset=7),
    "one reference": field("sweep.json", reference=[1]),
    "a reference of nothing": field("sweep.json", reference=[0, 0]),
    "no count of images": field("sweep.json", validation_images="many"),
    "another time": field("sweep.json", began="yesterday"),
    "a hypervolume in words": field("front.json", hypervolume="large"),
    "an accuracy past one": field("front.json", dense_accuracy=1.5),
    "a reference in words": field("front.json", reference_params={}),
    "a best before the first": field("front.json", best=-1),
    "half of a character": field("sweep.json", id="\ud800"),
    "an escape past the last character": whole("sweep.yaml", 'name: "\\U00110000"'),
    "a pipe for facts": instead("sweep.json", os.mkfifo),
    "a pipe for the sweep file": instead("sweep.yaml", os.mkfifo),
    "a loop for facts": instead("sweep.json", lambda path: path.symlink_to(path)),
    "a folder for facts": instead("sweep.json", Path.mkdir),
}


@pytest.mark.parametrize("damage", STRANGE.values(), ids=STRANGE)
def test_one_strange_sweep_does_not_hide_the_others(
    tmp_path: Path, new_sweep: Callable[..., Ledger], damage: Callable[[Path], object]
) -> None:
    good, bad = new_sweep(finished=True), new_sweep(finished=True)
    damage(bad.path)
    rows = {row["sweep"]: row for row in sweep_rows(tmp_path)}
    assert rows[good.facts.id]["state"] == "finished"
    (row,) = (row for name, row in rows.items() if name != good.facts.id)
    assert row["state"] == "damaged"
    assert str(bad.path) in row["cause"]
    text = printed(lambda console: print_sweeps(console, list(rows.values()), tmp_path))
    text.encode()
    assert good.facts.id in text


def test_names_are_printed_as_they_are(tmp_path: Path, new_sweep: Callable[..., Ledger]) -> None:
    sweep = new_sweep(finished=True)
    field("sweep.json", dataset="cats[/b] [red]\x1b[2J")(sweep.path)
    front = sweep.front()
    assert front is not None
    points = tuple(replace(e, point=replace(e.point, family="[/x]")) for e in front.points)
    strange = replace(
        front, points=points, best=None, baselines={"[/y]": next(iter(front.baselines.values()))}
    )
    rows = sweep_rows(tmp_path)
    text = printed(lambda console: print_sweeps(console, rows, tmp_path))
    assert r"cats[/b] [red]\x1b[2J" in text
    text = printed(lambda console: print_front(console, sweep.facts, strange, final=True))
    assert "[/y]" in text
    assert "\x1b" not in text


def test_the_json_of_a_sweep_gives_its_front_back(
    new_sweep: Callable[..., Ledger], version: RegisteredVersion
) -> None:
    ledger = new_sweep()
    front = ledger.front()
    assert front is not None
    values = json.loads(json.dumps(outcome_json(ledger.facts, front, {"best": version}), allow_nan=False))
    assert (values["sweep"], values["dataset"]) == (ledger.facts.id, "digits")
    assert Front.from_dict(values["front"]) == front
    assert values["aliases"]["best"]["uri"] == "models:/arsvd-digits/3"
    assert outcome_json(ledger.facts, front)["aliases"] == {}
