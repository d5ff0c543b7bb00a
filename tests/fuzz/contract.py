"""What a fuzz target is, and the judgement of one input: answered or refused in words, in time."""

import hashlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random

LIMIT_SECONDS = 5.0
_FRAMES = 4  # of a traceback that tell two refusals apart


@dataclass(frozen=True)
class Seed:
    """A valid file, written by the product's own writers.

    Attributes:
        name: which file it is where a target reads several; it may decide the file's ending.
        data: its content.
    """

    name: str
    data: bytes


Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """A reader of a file that somebody else may have written.

    Attributes:
        name: how the command line and the tests call it.
        seeds: makes the valid files, once a process.
        place: makes what lies around the file in an empty folder, and returns where the file goes.
        read: reads the file, through what the product's commands call.
        refusals: the documented errors; anything else that is raised is a fault.
        mutate: changes a file's content, knowing those of the other seeds.
        examples: inputs that the short form tries.
        generates: file names, or their ends, of library modules that compile code of their own on the way.
        special: whether the reader itself opens the file, so that a pipe or a device in its place counts.
    """

    name: str
    seeds: Callable[[], Sequence[Seed]]
    place: Callable[[Path, str], Path]
    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]
    mutate: Mutator
    examples: int = 30
    generates: tuple[str, ...] = ()
    special: bool = True


@dataclass(frozen=True)
class Verdict:
    """What a reader did with one input.

    Attributes:
        fault: the traceback, or what else was wrong; None where it answered or refused as documented.
        signature: equal for inputs that take the same way to the same end.
        seconds: wall time of the reading alone.
        refused: whether it refused the file.
    """

    fault: str | None
    signature: str
    seconds: float
    refused: bool


class TooSlowError(BaseException):
    """A reader took too long. No `Exception`, so that no reader takes it for a fault of its file."""


@cache
def targets() -> dict[str, Target]:
    """Find every target under `tests/fuzz/targets`, by name."""
    found: dict[str, Target] = {}
    for path in sorted((Path(__file__).parent / "targets").glob("*.py")):
        for target in import_module(f"tests.fuzz.targets.{path.stem}").TARGETS:
            assert target.name not in found
            found[target.name] = target
    return found


def judge(target: Target, name: str, data: bytes, folder: Path) -> Verdict:
    """Let a target read one input.

    Args:
        target: the reader.
        name: of the seed that the input was made from.
        data: the file's content.
        folder: an empty folder.
    """
    path = target.place(folder, name)
    path.write_bytes(data)
    return judge_file(target, path)


def judge_file(target: Target, path: Path) -> Verdict:
    """Let a target read what lies at a path, which may be no file."""
    began = time.perf_counter()
    fault: BaseException | None = None
    try:
        with _alarm(LIMIT_SECONDS):
            target.read(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = error
    seconds = time.perf_counter() - began
    if fault is None:
        late = seconds > LIMIT_SECONDS
        return Verdict(f"took {seconds:.1f} s" if late else None, "answered", seconds, False)
    if isinstance(fault, target.refusals):
        return Verdict(None, _signature(fault), seconds, True)
    return Verdict("".join(traceback.format_exception(fault)), _signature(fault), seconds, False)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TooSlowError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _signature(error: BaseException) -> str:
    """Tell by which lines an error came, its causes included; texts hold the input's own values."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < 5:
        frames = traceback.extract_tb(found.__traceback__)[-_FRAMES:]
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        parts.append(f"{type(found).__name__} {' '.join(places)}")
        found = found.__cause__ or found.__context__
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
