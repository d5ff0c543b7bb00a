import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from cluster.locking import acquire, alone


def _refuse_with(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)


def test_others_wait_and_the_file_stays(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "lock"):
            order.append("second")

    with alone(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert (tmp_path / "lock").is_file()


def test_a_held_lock_is_refused_after_the_time_given(tmp_path: Path) -> None:
    lock = acquire(tmp_path / "lock")
    with pytest.raises(Timeout):
        acquire(tmp_path / "lock", timeout=0)
    lock.release()
    assert acquire(tmp_path / "lock", timeout=0).is_locked


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_nobody_waits_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    _refuse_with(monkeypatch, code)
    with alone(tmp_path / "lock"), alone(tmp_path / "lock"):
        pass
    assert not acquire(tmp_path / "lock", timeout=0).is_locked


def test_other_faults_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IsADirectoryError), alone(tmp_path):
        pass
    _refuse_with(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), alone(tmp_path / "lock"):
        pass
