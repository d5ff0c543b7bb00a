"""Slow writing, in order, on one thread; what went wrong comes back when it is waited for."""

import threading
import time

import pytest

from sweeps.ledger.storage import StorageError
from sweeps.tracking import ServerAwayError, TrackingError
from sweeps.tracking.worker import Missed, Worker


def test_calls_run_in_order_on_one_thread_beside_the_caller() -> None:
    seen: list[tuple[int, str]] = []
    gate = threading.Event()
    with Worker() as worker:
        worker.submit(gate.wait)
        for number in range(50):
            worker.submit(
                lambda n, *, word: seen.append((n, word)), number, word=threading.current_thread().name
            )
        assert seen == []  # the caller goes on while the first call waits
        gate.set()
        worker.wait()
        assert seen == [(number, "MainThread") for number in range(50)]
        threads: set[int] = set()
        for _ in range(10):
            worker.submit(lambda: threads.add(threading.get_ident()))
        worker.wait()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_unforeseen_error_is_missing_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []

    def call(number: int) -> None:
        seen.append(number)
        if number in (2, 5):
            raise ZeroDivisionError(f"a fault at {number},\n  near https://user:hush@host/")

    with Worker() as worker:
        futures = [worker.submit(call, number, label=f"member {number}") for number in range(8)]
        assert worker.wait() == [
            Missed(f"member {number}", f"ZeroDivisionError: a fault at {number}, near https://host/")
            for number in (2, 5)
        ]
        assert seen == list(range(8))
        assert isinstance(futures[2].exception(), ZeroDivisionError)
        assert worker.wait() == []  # told once
        worker.submit(call, 9)
        assert worker.wait() == []
    assert seen[-1] == 9
    first, second = [
        record.getMessage() for record in caplog.records if record.name == "sweeps.tracking.worker"
    ]
    assert first.startswith("member 2:\nTraceback")
    assert "in call" in first
    assert second.startswith("member 5:")
    assert "hush" not in caplog.text


def test_leaving_waits_for_what_was_queued() -> None:
    seen: list[int] = []
    gate = threading.Event()
    with Worker() as worker:
        worker.submit(gate.wait)
        worker.submit(seen.append, 1)
        gate.set()
    assert seen == [1]


def test_an_error_of_the_caller_drops_what_has_not_begun() -> None:
    seen: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        gate.wait(10)
        seen.append(0)

    def interrupted() -> None:
        with Worker() as worker:
            worker.submit(slow)
            worker.submit(seen.append, 1)
            begun.wait(10)
            threading.Timer(0.05, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [0]  # what had begun has ended: nobody else writes from here on


def test_cancel_drops_what_has_not_begun_and_waits_for_what_has() -> None:
    seen: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        gate.wait(10)
        seen.append(0)

    with Worker() as worker:
        worker.submit(slow)
        worker.submit(seen.append, 1)
        begun.wait(10)
        threading.Timer(0.05, gate.set).start()
        worker.cancel()
        assert seen == [0]
        worker.wait()
    assert seen == [0]


QUICK = (0.01, 0.05)


class Server:
    """Answers calls, or is away for the next few."""

    def __init__(self, away: int = 0, answered: bool = False) -> None:
        self.away, self.answered = away, answered
        self.calls: list[int] = []

    def write(self, number: int) -> int:
        if self.away:
            self.away -= 1
            raise ServerAwayError("the server is away", self.answered)
        self.calls.append(number)
        return number


def test_calls_wait_for_a_server_that_is_away_and_keep_their_order() -> None:
    server = Server(away=3)
    with Worker(QUICK) as worker:
        futures = [worker.submit(server.write, number) for number in range(5)]
        assert worker.wait(30) == []
        assert worker.away is None
    assert server.calls == [0, 1, 2, 3, 4]
    assert [future.result() for future in futures] == [0, 1, 2, 3, 4]


def test_other_calls_go_before_one_that_the_server_fails_on() -> None:
    good, bad = Server(), Server(away=10**9, answered=True)
    with Worker(QUICK) as worker:
        worker.submit(bad.write, 0, label="the bad one")
        for number in range(5):
            worker.submit(good.write, number)
        assert worker.wait(0.2) == [Missed("the bad one", "the server is away")]
    assert good.calls == [0, 1, 2, 3, 4]


def test_refused_calls_are_missing_and_not_retried() -> None:
    tries: list[int] = []

    def refused(number: int) -> None:
        tries.append(number)
        raise TrackingError(f"no room for {number}")

    server = Server()
    with Worker(QUICK) as worker:
        worker.submit(refused, 7, label="member 7")
        worker.submit(server.write, 8)
        assert worker.wait(30) == [Missed("member 7", "no room for 7")]
        assert worker.wait(30) == []  # told once
    assert tries == [7]
    assert server.calls == [8]


def test_the_end_waits_for_a_while_only() -> None:
    server, told = Server(away=10**9), list[str]()
    with Worker(QUICK) as worker:
        lost = worker.submit(server.write, 1, label="member 1")
        worker.submit(server.write, 2, label="member 2")
        missed = worker.wait(0.2, told.append)
        assert missed == [Missed(f"member {number}", "the server is away") for number in (1, 2)]
        assert told == ["the server is away; waiting up to 0.2 s for it"]
        assert lost.cancelled()
        server.away = 0  # it is back: the worker still works
        worker.submit(server.write, 3)
        assert worker.wait(30) == []
    assert server.calls == [3]


def test_a_long_call_that_gets_answers_is_not_given_up() -> None:
    server = Server(away=1)
    with Worker(QUICK) as worker:

        def long() -> str:
            if not server.calls:
                server.write(1)
            worker.answers()
            time.sleep(0.6)
            if len(server.calls) == 1:
                server.calls.append(2)
                raise ServerAwayError("away again")
            return "done"

        future = worker.submit(long)
        assert worker.wait(0.4) == []  # each outage is shorter, both together with the work are not
    assert future.result() == "done"


def test_unreachable_files_are_retried_without_blocking_other_calls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[int] = []
    server = Server()

    def read(times: int) -> None:
        tries.append(times)
        if tries.count(times) <= times:
            raise StorageError(f"cannot read s3://bucket/{times}: no answer")

    with Worker(QUICK) as worker:
        worker.submit(read, 2)
        worker.submit(server.write, 1)
        assert worker.wait(30) == []
        assert (tries, server.calls) == ([2, 2, 2], [1])
        worker.submit(read, 10**9, label="member 7")
        assert worker.wait(0.2) == [Missed("member 7", f"cannot read s3://bucket/{10**9}: no answer")]
    assert caplog.text == ""


def test_a_wait_with_a_limit_ends_while_the_server_answers_and_leaves_the_rest_queued() -> None:
    server, gate = Server(), threading.Event()
    with Worker(QUICK) as worker:
        worker.submit(server.write, 1)
        worker.submit(gate.wait, 30)
        worker.submit(server.write, 2)
        began = time.monotonic()
        assert worker.wait(30, limit=0.2) == []
        assert time.monotonic() - began < 10
        assert (server.calls, worker.queued) == ([1], 2)
        gate.set()
        assert worker.wait(30, limit=30) == []
    assert server.calls == [1, 2]


def test_a_wait_calls_watch_on_the_callers_thread() -> None:
    seen: list[tuple[int, int]] = []
    done: list[int] = []
    with Worker(QUICK) as worker:
        for _ in range(3):
            worker.submit(lambda: (time.sleep(0.4), done.append(1)))
        assert worker.wait(30, watch=lambda: seen.append((threading.get_ident(), len(done)))) == []
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    assert {0, 1, 2} <= {count for _, count in seen}


def test_a_limit_holds_while_the_server_is_away() -> None:
    server = Server(away=10**9)
    with Worker(QUICK) as worker:
        worker.submit(server.write, 1)
        began = time.monotonic()
        assert worker.wait(60, limit=0.2) == []
        assert time.monotonic() - began < 10
        server.away = 0
        assert worker.wait(30) == []
    assert server.calls == [1]


def test_settling_stops_at_an_outage_and_drops_nothing() -> None:
    server = Server(away=10**9)
    with Worker(QUICK) as worker:
        worker.settle()
        worker.submit(server.write, 1)
        worker.settle()
        assert worker.away == "the server is away"
        assert worker.queued == 1
        server.away = 0
        assert worker.wait(30) == []
    assert server.calls == [1]


def test_leaving_after_an_error_does_not_wait_for_a_server_that_is_away() -> None:
    server = Server(away=10**9)

    def interrupted() -> None:
        with Worker(QUICK) as worker:
            worker.submit(server.write, 1)
            worker.settle()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # the thread is at its end: nothing is tried any more
    tries = server.away
    time.sleep(0.2)
    assert server.away == tries


def test_a_long_call_ends_when_it_is_cancelled() -> None:
    begun = threading.Event()
    with Worker(QUICK) as worker:

        def long() -> None:
            begun.set()
            while True:
                worker.check_cancelled()
                time.sleep(0.01)

        worker.submit(long)
        begun.wait(10)
        assert worker.cancel(10)
        assert worker.wait(10) == []
