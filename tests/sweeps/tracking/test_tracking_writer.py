import shlex
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from arsvd import OperatingPoint
from sweeps.config import MemberConfig
from sweeps.ledger.records import Front, MemberRecord
from sweeps.tracking import ServerAwayError, SweepWriter, TrackingError, arsvd_home, connect
from sweeps.tracking.runs import check_experiment

DATA_HASH = "0123456789abcdef" * 4
START = {
    "sweep": "digits-1",
    "dataset": "digits",
    "data_hash": DATA_HASH,
    "params": {"search.trials": 16, "training.lr": "loguniform 1e-3 … 1e-2"},
    "reference_params": 2_000,
}


@pytest.fixture
def writer(client: MlflowClient) -> SweepWriter:
    writer = SweepWriter(client)
    writer.start(**START)
    return writer


def children(client: MlflowClient, writer: SweepWriter) -> list[Run]:
    condition = f"tags.mlflow.parentRunId = '{writer.run_id}'"
    return list(client.search_runs([writer.experiment_id], condition))


def series(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, key))


def test_a_sweep_is_one_run(client: MlflowClient, writer: SweepWriter, make_record, front: Front) -> None:
    writer.member(make_record(1))
    writer.progress(members=1, points=30, hypervolume=0.5)
    writer.progress(members=2, points=60, hypervolume=0.7, best=front.points[1])
    report = arsvd_home() / "report.html"
    report.write_text("<p>front</p>")
    writer.finish("FINISHED", [report], front)

    experiment = client.get_experiment_by_name("arsvd-digits")
    assert experiment.artifact_location == (arsvd_home() / "artifacts" / "arsvd-digits").as_uri()
    assert "load_best" in experiment.tags["mlflow.note.content"]
    run = client.get_run(writer.run_id)
    assert (run.info.run_name, run.info.status) == ("sweep digits-1", "FINISHED")
    assert run.data.params == {"search.trials": "16", "training.lr": "loguniform 1e-3 … 1e-2"}
    assert run.data.tags["arsvd.data_hash"] == DATA_HASH
    assert run.data.tags["version.mlflow"]
    assert 'load_best("digits")' in run.data.tags["mlflow.note.content"]
    assert series(client, writer.run_id, "hypervolume") == [(1, 0.5), (2, 0.7)]
    assert series(client, writer.run_id, "points") == [(1, 30), (2, 60)]
    best = front.points[2].point
    assert run.data.metrics["best_params"] == best.params
    assert run.data.metrics["best_ratio"] == 2_000 / best.params
    assert run.data.metrics["best_test_accuracy"] == pytest.approx(0.93)
    assert run.data.metrics["final_hypervolume"] == 0.75
    assert run.data.metrics["weight_energy_hypervolume"] == 0.25
    assert [file.path for file in client.list_artifacts(writer.run_id)] == ["report.html"]
    inputs = {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs}
    assert inputs == {
        ("digits train", DATA_HASH[:36], "training"),
        ("digits validation", DATA_HASH[:36], "validation"),
        ("digits test", DATA_HASH[:36], "testing"),
    }


def test_a_member_is_one_nested_run(client: MlflowClient, writer: SweepWriter, make_record) -> None:
    run_id = writer.member(make_record(7))
    (run,) = children(client, writer)
    assert run.info.run_id == run_id
    assert (run.info.run_name, run.info.status) == ("member 7: 16-8", "FINISHED")
    assert run.info.end_time - run.info.start_time >= 4_000
    assert run.data.params["hidden"] == "16-8"
    assert run.data.params["lr"] == "0.001"
    assert len(run.data.params) == len(fields(MemberConfig))
    assert series(client, run_id, "train_loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert series(client, run_id, "front_accuracy") == [(500, 0.8), (1000, 0.9)]
    assert series(client, run_id, "front_macs") == [(500, 490), (1000, 990)]
    assert run.data.metrics["dense_accuracy"] == 0.95
    assert run.data.metrics["asked_ratio"] == 2.0
    assert run.data.metrics["seconds_train"] == 3.0


def test_a_failed_member_keeps_its_cause_until_it_finishes(
    client: MlflowClient, writer: SweepWriter, make_record
) -> None:
    failed = make_record(3, status="failed", cause="the loss is not finite " * 1000, dense=None, asked=None)
    writer.member(replace(failed, points=(), curves={}))
    (run,) = children(client, writer)
    assert run.info.status == "FAILED"
    assert run.data.tags["arsvd.cause"].startswith("the loss is not finite")
    assert len(run.data.tags["arsvd.cause"]) == 8_000
    for fresh in (writer, SweepWriter(client)):
        fresh.start(**START)
        fresh.member(make_record(3))
        (run,) = children(client, writer)
        assert run.info.status == "FINISHED"
        assert "arsvd.cause" not in run.data.tags
        assert run.data.metrics["dense_accuracy"] == 0.95


def everything(client: MlflowClient, writer: SweepWriter) -> list[object]:
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            run.data.params,
            run.data.tags,
            {key: series(client, run.info.run_id, key) for key in run.data.metrics},
        )
        for run in children(client, writer)
    ]


def test_duplicate_writes_are_stored_once(client: MlflowClient, writer: SweepWriter, make_record) -> None:
    run_ids = {writer.member(make_record(number)) for number in (1, 2)}
    before = everything(client, writer)
    writer.member(make_record(1))
    again = SweepWriter(connect())
    assert again.start(**START) == writer.run_id
    assert {again.member(make_record(number)) for number in (1, 2)} == run_ids
    assert everything(client, writer) == before
    assert len(client.get_run(writer.run_id).inputs.dataset_inputs) == 3


class _LostError(Exception):
    pass


@pytest.mark.parametrize("after", ["create_run", "log_batch"])
def test_a_half_written_member_is_completed(
    after: str, client: MlflowClient, writer: SweepWriter, make_record, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SweepWriter(client)
    whole.start(**{**START, "sweep": "other"})
    whole.member(make_record(7))
    expected = everything(client, whole)

    method = getattr(MlflowClient, after)

    def once(*args: object, **kwargs: object) -> None:
        method(*args, **kwargs)
        raise _LostError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, after, once)
        with pytest.raises(_LostError):
            writer.member(make_record(7))
    assert [run.info.status for run in children(client, writer)] == ["RUNNING"]
    again = SweepWriter(client)
    again.start(**START)
    again.member(make_record(7))
    completed = everything(client, again)
    assert len(completed) == 1
    assert completed[0][4] == expected[0][4]  # type: ignore[index]
    assert completed[0][6] == expected[0][6]  # type: ignore[index]


def test_a_run_whose_creation_got_no_answer_is_found_again(
    client: MlflowClient, writer: SweepWriter, make_record, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = MlflowClient.create_run

    def unanswered(*args: object, **kwargs: object) -> None:
        create(*args, **kwargs)
        raise MlflowException("API request to http://host failed with exception: reset")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", unanswered)
        with pytest.raises(ServerAwayError):
            writer.member(make_record(7))
    writer.member(make_record(7))
    (run,) = children(client, writer)
    assert run.info.status == "FINISHED"


def test_two_sweeps_that_log_the_data_set_at_once_do_not_fail(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_inputs, tries = MlflowClient.log_inputs, []

    def late(*args: object, **kwargs: object) -> None:
        tries.append(args)
        if len(tries) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
        log_inputs(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_inputs", late)
    run_id = SweepWriter(client).start(**START)
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 3
    assert len(tries) == 2


def test_one_of_duplicate_runs_is_kept(client: MlflowClient, writer: SweepWriter, make_record) -> None:
    # a server that took long has carried out a request and its repetition
    kept = writer.member(make_record(7))
    tags = {"arsvd.sweep": "digits-1", "mlflow.parentRunId": writer.run_id}
    client.create_run(writer.experiment_id, start_time=1, tags={**tags, "arsvd.member": "key7"})
    client.create_run(writer.experiment_id, tags={"arsvd.sweep": "digits-1"})
    again = SweepWriter(client)
    assert again.start(**START) == writer.run_id
    assert again.member(make_record(7)) == kept
    assert len(client.search_runs([writer.experiment_id], "tags.arsvd.sweep = 'digits-1'")) == 2


def test_progress_and_summary_written_again_add_nothing(
    client: MlflowClient, writer: SweepWriter, front: Front
) -> None:
    for _ in range(2):
        writer.progress(members=1, points=30, hypervolume=0.5, best=front.points[2], at=1_000)
        writer.finish("FINISHED", front=front)
        ended = client.get_run(writer.run_id).info.end_time
    assert writer.progress_steps() == {1}
    run = client.get_run(writer.run_id)
    for key in run.data.metrics:
        assert len(client.get_metric_history(writer.run_id, key)) == 1, key
    assert run.info.end_time == ended


def test_a_sweep_that_does_not_run_keeps_its_times_and_its_origin(client: MlflowClient, make_record) -> None:
    writer = SweepWriter(client)
    source = {"version.torch": "of another machine"}
    start = {**START, "provenance": source, "began": 1_000, "running": False}
    writer.start(**start)
    run_id = writer.member(make_record(7), ended=9_000)
    writer.finish("FINISHED", ended=10_000)
    writer.start(**start)
    run, member = client.get_run(writer.run_id), client.get_run(run_id)
    assert writer.status == run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1_000, 10_000)
    assert (member.info.start_time, member.info.end_time) == (5_000, 9_000)
    assert {key: v for key, v in run.data.tags.items() if key.startswith("version.")} == source


def test_a_resumed_sweep_keeps_its_run_and_says_what_changed(
    client: MlflowClient, writer: SweepWriter
) -> None:
    writer.finish("KILLED")
    assert client.get_run(writer.run_id).info.status == "KILLED"
    again = SweepWriter(client)
    assert again.start(**{**START, "params": {"search.trials": 200, "new": "x" * 9_000}}) == writer.run_id
    run = client.get_run(writer.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params["search.trials"] == "16"
    assert run.data.tags["changed.search.trials"] == "200"
    assert len(run.data.params["new"]) == 6_000
    again.start(**{**START, "params": {"new": "x" * 9_000}})
    assert "changed.new" not in client.get_run(writer.run_id).data.tags


def test_sizes_beyond_the_limits_of_one_request(
    client: MlflowClient, writer: SweepWriter, make_record: Callable[..., MemberRecord],
    make_point: Callable[..., OperatingPoint],
) -> None:  # fmt: skip
    points = tuple(make_point(100 + index, index / 1000) for index in range(700))
    curve = [1 / epoch for epoch in range(1, 601)]
    run_id = writer.member(make_record(1, points=points, curves={"train_loss": curve, "lr": curve}))
    assert len(client.get_metric_history(run_id, "front_macro_f1")) == 700
    assert len(client.get_metric_history(run_id, "lr")) == 600
    params = {f"key{index:03d}": "é" * 5_000 for index in range(150)}
    SweepWriter(client).start(**{**START, "sweep": "large", "params": params})
    (run,) = client.search_runs([writer.experiment_id], "tags.arsvd.sweep = 'large'")
    assert run.data.params == params


def test_provenance_is_the_current_checkout(
    client: MlflowClient, writer: SweepWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tags(sweep: str) -> dict[str, str]:
        writer.start(**{**START, "sweep": sweep})
        return dict(client.get_run(writer.run_id).data.tags)

    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "mlflow.source.git.commit" not in tags("outside")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.test"]
    (folder / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    clean = tags("clean")
    assert len(clean["mlflow.source.git.commit"]) == 40
    assert clean["arsvd.git_changed"] == "false"
    (folder / "file").write_text("two")
    assert tags("changed")["arsvd.git_changed"] == "true"


def test_two_sweeps_on_one_data_set_share_an_experiment(client: MlflowClient, make_record) -> None:
    writers = [SweepWriter(client), SweepWriter(client)]
    for name, writer in zip("ab", writers, strict=True):
        writer.start(**{**START, "sweep": name})
        writer.member(make_record(1))
    assert writers[0].experiment_id == writers[1].experiment_id
    assert [len(children(client, writer)) for writer in writers] == [1, 1]


def test_members_of_a_sweep_whose_run_was_deleted_are_nested_in_the_new_one(
    client: MlflowClient, writer: SweepWriter, make_record
) -> None:
    kept = writer.member(make_record(1))
    client.delete_run(writer.run_id)
    again = SweepWriter(client)
    assert again.start(**START) != writer.run_id
    assert again.member(make_record(1)) == kept
    assert [run.info.run_id for run in children(client, again)] == [kept]


def commands(message: str) -> list[list[str]]:
    """The commands that a message holds, each as a shell splits it."""
    return [shlex.split(text) for text in message.split("`")[1::2]]


@pytest.mark.parametrize("command", [0, 1], ids=["restored", "removed for good"])
def test_a_deleted_experiment_is_refused_with_commands_that_mend_it(
    client: MlflowClient, writer: SweepWriter, monkeypatch: pytest.MonkeyPatch, command: int
) -> None:
    from mlflow.cli import cli

    client.delete_experiment(writer.experiment_id)
    with pytest.raises(TrackingError, match="'arsvd-digits' was deleted in MLflow") as refused:
        SweepWriter(client).start(**START)
    with pytest.raises(TrackingError) as checked:
        check_experiment(client, "digits")
    assert str(checked.value) == str(refused.value)
    place, program, *arguments = commands(str(refused.value))[command]
    assert program == "mlflow"
    name, _, value = place.partition("=")
    monkeypatch.setenv(name, value)
    # as in a new process: other tests of this one have told MLflow of a server
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    said = CliRunner().invoke(cli, arguments)
    assert said.exit_code == 0, said.output
    check_experiment(client, "digits")
    SweepWriter(client).start(**START)


@pytest.mark.parametrize("uri", ["postgresql://me:secret@db/x", "https://me:secret@host"])
def test_commands_that_mend_a_deleted_experiment_hold_no_password(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    deleted = SimpleNamespace(name="arsvd-digits", lifecycle_stage="deleted", experiment_id="7")
    server = SimpleNamespace(tracking_uri=uri, get_experiment_by_name=lambda name: deleted)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"`mlflow experiments restore --experiment-id 7`") as refused:
        check_experiment(server, "digits")
    assert "secret" not in str(refused.value)
    assert ("on the server's own machine" in str(refused.value)) == uri.startswith("https")


def test_a_sweep_must_be_started_first(client: MlflowClient, make_record) -> None:
    with pytest.raises(ValueError, match="call start first"):
        SweepWriter(client).member(make_record(1))
