"""What a person reads of a member: its note, and metrics under names that tell what they are."""

from collections import Counter
from dataclasses import replace

from mlflow import MlflowClient

from mlflow_server.pages import SINGLE_METRICS
from sweeps.ledger.records import Front
from sweeps.tracking import SweepWriter
from sweeps.tracking.entities import front_values, member_metrics, progress_values
from sweeps.tracking.members import member_note

NOTE = "mlflow.note.content"
START = {"sweep": "digits-1", "dataset": "digits", "data_hash": "0123456789abcdef" * 4, "params": {}}


def test_a_note_begins_with_what_a_list_has_room_for(make_record) -> None:
    note = member_note(make_record(7), 4_000)
    assert note.splitlines()[0] == "Dense 95.00% at 2,000, compressed 90.00% at 1,000 parameters"
    assert "hidden layers of 16, 8, trained with epochs 3, batch size 64, lr 0.001, weight decay 0.01" in note
    assert "by energy at 0.98 in the activation basis" in note
    assert "| dense | 2,000 | 2.0 | 0.9500 |" in note
    assert "| proposed by the search | 1,000 | 4.0 | 0.9000 |" in note
    assert "| front | 500 | 8.0 | 0.8000 |" in note
    assert "| front | 600 |" not in note  # beaten


def test_a_note_tells_what_is_on_whoever_declared_it(make_record, make_config) -> None:
    changes = {"factors": 2, "flip": True, "lasso_weight": 1e-4, "schedule": "cosine"}
    note = member_note(make_record(7, config=make_config(**changes)), None)
    assert all(told in note for told in ("factors 2", "flip True", "lasso weight 0.0001", "schedule cosine"))
    assert not any(off in note for off in ("dropout", "label smoothing", "finetune"))
    assert "None" not in member_note(make_record(7), None)


def test_a_note_lists_few_points_and_both_ends(make_record, make_point) -> None:
    points = tuple(make_point(100 + index, index / 100) for index in range(90))
    rows = [
        row for row in member_note(make_record(7, points=points), None).splitlines() if "| front |" in row
    ]
    assert len(rows) == 6
    assert rows[0].startswith("| front | 100 |  | 0.0000 |")
    assert rows[-1].startswith("| front | 189 |  | 0.8900 |")


def test_a_failed_member_tells_its_cause_as_it_is_and_no_password(make_record) -> None:
    cause = "no **bold** here\n# nor a heading\nat postgresql://me:secret@host/db\n" + "x" * 9_000
    note = member_note(make_record(3, status="failed", cause=cause, dense=None, asked=None, points=()), 4_000)
    assert note.splitlines()[0] == "Failed"
    assert "It failed:\n\n    no **bold** here\n    # nor a heading\n" in note
    assert "secret" not in note
    assert len(note) < 3_000


def test_the_proposed_point_keeps_its_former_name_besides(make_record) -> None:
    values = {metric.key: metric.value for metric in member_metrics(make_record(7), 2_000, 0)}
    named = {key.removeprefix("proposed_"): v for key, v in values.items() if key.startswith("proposed_")}
    assert named == {key.removeprefix("asked_"): v for key, v in values.items() if key.startswith("asked_")}
    assert set(named) == {"accuracy", "macro_f1", "loss", "params", "macs", "ratio"}
    assert next(iter(values)) == "dense_accuracy"  # the order of a page


def test_single_numbers_are_not_charts(make_record, front: Front) -> None:
    seconds = dict.fromkeys(("train", "spectra", "evaluate", "recover"), 1.0)
    counts = Counter(metric.key for metric in member_metrics(make_record(7, seconds=seconds), 2_000, 0))
    assert {name for name, count in counts.items() if count == 1} <= set(SINGLE_METRICS)
    entry = front.points[2]
    whole = replace(front, dense=entry, reference=entry)
    whole = replace(
        whole, baselines={name: replace(b, others_hypervolume=0.5) for name, b in front.baselines.items()}
    )
    curves = progress_values(1, 2, 0.5, entry, 2_000)
    assert front_values(whole, 2_000).keys() - curves.keys() <= set(SINGLE_METRICS) | {"dense_ratio"}


def test_members_of_an_earlier_release_get_a_note_and_a_note_of_the_user_stays(
    client: MlflowClient, make_record
) -> None:
    writer = SweepWriter(client)
    writer.start(**START)
    run_id = writer.member(make_record(7), ended=9_000)
    before = client.get_run(run_id)
    assert before.data.tags[NOTE].startswith("Dense 95.00%")
    client.delete_tag(run_id, NOTE)
    for expected, change in ((before.data.tags[NOTE], "mine"), ("mine", "mine")):
        again = SweepWriter(client)
        again.start(**START)
        assert again.member(make_record(7), ended=9_000) == run_id
        after = client.get_run(run_id)
        assert after.data.tags[NOTE] == expected
        assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
        assert after.data.metrics == before.data.metrics
        client.set_tag(run_id, NOTE, change)
    assert len(client.get_metric_history(run_id, "asked_accuracy")) == 1
