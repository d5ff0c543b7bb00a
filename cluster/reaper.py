"""Ends what a killed driver leaves of its own Ray, and says its last words: `python -m cluster.reaper PID`.

Ray's node manager and control service end with the process that started them, whatever ended it. Some of
their helpers notice only a minute later, since they try to report that first. And Ray itself ends the driver
without a word where they are ended. This is started before Ray, and waits until its standard input is closed,
by the driver or by the driver's end. The last line on it is what to say then; none where that is empty.
"""

import contextlib
import os
import re
import signal
import sys
import time

import psutil

_GRACE_SECONDS = 3.0  # what ends by itself needs no more
_MOST_SECONDS = 30.0
_LOOK_SECONDS = 0.25


def left_of(driver: int, since: float) -> list[psutil.Process]:
    """Find the processes of a driver's Ray: they keep a file of its session open.

    Args:
        driver: number of its process, which is part of the session's name.
        since: earliest start of such a process, in seconds since 1970: numbers of processes are given out
            again, and a folder of that name may be older.

    Returns:
        Those that run, without the driver and this process.
    """
    session = re.compile(rf"/session_[0-9_-]+_{driver}/")
    found = []
    for process in psutil.process_iter():
        if process.pid in (driver, os.getpid()):
            continue
        with contextlib.suppress(psutil.Error):  # it has ended, or it is another user's
            if process.create_time() >= since and any(
                session.search(file.path) for file in process.open_files()
            ):
                found.append(process)
    return found


def reap(driver: int, since: float, grace: float = _GRACE_SECONDS) -> None:
    """End what a driver's Ray has left, and return when nothing is left.

    Args:
        driver: number of its process.
        since: earliest start of such a process, as above.
        grace: seconds that processes have to end by themselves.
    """
    began = time.monotonic()
    while left := left_of(driver, since):
        waited = time.monotonic() - began
        if waited > _MOST_SECONDS:
            return
        if waited >= grace:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        time.sleep(_LOOK_SECONDS)


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    words = ""
    for line in sys.stdin:
        words = line.strip()
    if words:
        with contextlib.suppress(OSError):  # nobody reads any more
            print(words, file=sys.stderr, flush=True)
    # Ray was started after this; asked for only now, since the times that psutil tells follow the clock
    reap(int(sys.argv[1]), psutil.Process().create_time())


if __name__ == "__main__":
    _main()
