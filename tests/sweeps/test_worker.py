"""Slow writing, in order, on one thread; errors come back when it is waited for."""

import threading

import pytest

from sweeps.worker import Worker


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


def test_the_first_error_is_raised_after_all_calls_have_run() -> None:
    seen: list[int] = []

    def call(number: int) -> None:
        seen.append(number)
        if number in (2, 5):
            raise ConnectionError(f"server gone at {number}")

    with Worker() as worker:
        for number in range(8):
            worker.submit(call, number)
        with pytest.raises(ConnectionError, match="server gone at 2"):
            worker.wait()
        assert seen == list(range(8))
        worker.wait()  # told once
        worker.submit(call, 9)
        worker.wait()
    assert seen[-1] == 9


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
