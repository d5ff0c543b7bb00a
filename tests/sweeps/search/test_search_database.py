"""The study in PostgreSQL: as in a journal, over restarts, and with a password that is repeated nowhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger import JOURNAL, Ledger
from sweeps.mending import mended_study
from sweeps.records import MemberRecord
from sweeps.search.opening import STUDY_VARIABLE, open_study, study_place
from sweeps.search.study import Standing, StudyError

REFERENCE = (17_226, 17_024)


@pytest.fixture
def new_sweep(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_config: Callable[..., SweepConfig],
    digits: Dataset,
) -> Callable[[str], Ledger]:
    def make(url: str) -> Ledger:
        monkeypatch.setenv(STUDY_VARIABLE, url)
        config = new_config("search.trials=8", "search.inject=0")
        return Ledger.create(tmp_path, config, digits, REFERENCE, study_place(tmp_path))

    return make


def test_a_study_in_a_database_goes_on_after_the_driver_and_the_database_went_away(
    new_postgres: Callable[[], Any],
    new_sweep: Callable[[str], Ledger],
    new_record: Callable[..., MemberRecord],
) -> None:
    cluster = new_postgres()
    ledger = new_sweep(cluster.create("study"))
    config, data_hash = ledger.config, ledger.facts.data_hash

    def file(number: int, member: Any) -> MemberRecord:
        record = new_record(number, [(100, 0.9)], config=member, key=member.key(data_hash))
        ledger.write_member(record)
        return record

    study, standing = mended_study(ledger, config, data_hash, [], pytest.fail)
    assert standing == Standing(0, [])
    asked = [study.ask() for _ in range(4)]
    study.tell(file(*asked[0]))
    cluster.restart()
    study.tell(file(*asked[1]))
    file(*asked[2])  # the driver was killed before it could tell
    _, standing = mended_study(ledger, config, data_hash, ledger.members(), pytest.fail)
    assert standing == Standing(4, asked[3:])
    trials = optuna.load_study(study_name=ledger.facts.id, storage=cluster.uri("study")).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING]
    assert not ledger.journal.exists()

    # a database that lost the study gets it again from the records
    optuna.delete_study(study_name=ledger.facts.id, storage=cluster.uri("study"))
    _, standing = mended_study(ledger, config, data_hash, ledger.members(), pytest.fail)
    assert standing == Standing(3, [])

    password = cluster.password.encode()
    assert [path for path in ledger.path.rglob("*") if path.is_file() and password in path.read_bytes()] == []
    assert ledger.facts.study == f"postgresql://127.0.0.1:{cluster.port}/study"

    cluster.stop()
    with pytest.raises(
        StudyError, match=rf"postgresql://127\.0\.0\.1:{cluster.port}/study.+refused"
    ) as caught:
        study.ask()
    assert cluster.password not in str(caught.value)
    with pytest.raises(StudyError, match="the study's database") as caught:
        open_study(ledger, config, data_hash)
    assert cluster.password not in str(caught.value)


def test_a_password_that_is_wrong_is_not_repeated(postgres: Any, new_sweep: Callable[[str], Ledger]) -> None:
    ledger = new_sweep(postgres.uri(password="wrong-hush"))
    with pytest.raises(StudyError, match="password authentication failed") as caught:
        open_study(ledger, ledger.config, ledger.facts.data_hash)
    assert "hush" not in str(caught.value)


def test_a_sweep_knows_which_database_holds_its_study(
    new_sweep: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_sweep("postgresql://one:hush@db.example/studies")
    text = "is in postgresql://db.example/studies: set ARSVD_STUDY to that database"
    for value, more in (
        ("", ""),
        ("postgresql://two:hush@elsewhere/x", ", it names postgresql://elsewhere/x"),
    ):
        monkeypatch.setenv(STUDY_VARIABLE, value)
        with pytest.raises(StudyError) as caught:
            open_study(ledger, ledger.config, ledger.facts.data_hash)
        assert text in str(caught.value)
        assert str(caught.value).endswith(text + more if more else text)
        assert "hush" not in str(caught.value)


# name: ARSVD_STUDY, home, the place or the error's text
PLACES: dict[str, tuple[str, str | Path, str, bool]] = {
    "nothing, in a folder": ("", Path("/tmp/home"), JOURNAL, True),
    "nothing, in a folder as text": ("", "/tmp/home", JOURNAL, True),
    "nothing, in a bucket": ("", "s3://bucket/home", "set ARSVD_STUDY to a database, such as", False),
    "a database": (
        "postgresql+psycopg2://u:hush@h:5/d",
        "s3://bucket/home",
        "postgresql+psycopg2://h:5/d",
        True,
    ),
    "another one": ("mysql://u:hush@h/d", Path("/tmp/home"), "mysql://h/d", True),
    "no database": ("redis://u:hush@h/d", Path("/tmp/home"), "must be a database's address", False),
    "a file": ("sqlite:///x.db", Path("/tmp/home"), "got one of the kind 'sqlite'", False),
    "no address": ("hush", Path("/tmp/home"), "must be a database's address", False),
}


@pytest.mark.parametrize(("value", "home", "answer", "usable"), PLACES.values(), ids=PLACES)
def test_where_a_new_study_goes(
    monkeypatch: pytest.MonkeyPatch, value: str, home: str | Path, answer: str, usable: bool
) -> None:
    monkeypatch.setenv(STUDY_VARIABLE, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    if usable:
        assert study_place(home) == answer
    else:
        with pytest.raises(StudyError) as caught:
            study_place(home)
        assert answer in str(caught.value)
        assert "u:hush" not in str(caught.value)
