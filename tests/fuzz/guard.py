"""What a reader may not do beside reading: run code, start programs, write elsewhere. For the long runs only.

An audit hook cannot be taken out again, so it is set in a process of its own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_RUNS = ("exec", "compile", "pickle.find_class", "marshal.load", "marshal.loads", "ctypes.dlopen")
_STARTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.startfile",
)
_REACHES = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ftplib.connect")
_CHANGES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "shutil.rmtree": 1,
    "sqlite3.connect": 1,
}
_IMPORTING = "<frozen importlib"
_FORMATTING = "/traceback.py"  # which compiles the lines that it marks in a fault


class Guard:
    """Collects what is done against the rules while it watches.

    Args:
        folders: where files may be written.
        generates: ends of the file names of modules that may compile code of their own.
    """

    def __init__(self, folders: tuple[Path, ...], generates: tuple[str, ...]) -> None:
        self.found: list[str] = []
        self._folders = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)
        self._generates = generates
        self._watching = False
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done inside the block."""
        self.found = []
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        self._watching = False  # what the check itself does is no event
        try:
            said = self._fault(event, arguments)
            if said is not None:
                self.found.append(said)
        finally:
            self._watching = True

    def _fault(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "import":
            root = str(arguments[0]).partition(".")[0]
            known = root in sys.modules or root in sys.stdlib_module_names
            return None if known else f"import of {arguments[0]}"
        if event in _RUNS:
            return None if self._legitimate() else f"{event} {arguments!r:.200}"
        if event.startswith((*_STARTS, *_REACHES)):
            return f"{event} {arguments!r:.200}"
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            outside = bool(writes) and not isinstance(path, int) and not self._inside(path)
            return f"open of {path!r} for writing ({mode})" if outside else None
        if event in _CHANGES:
            paths, beside = arguments[: _CHANGES[event]], arguments[-1]
            if len(arguments) > len(paths) and isinstance(beside, int) and beside >= 0:
                paths = tuple(os.path.join(os.readlink(f"/proc/self/fd/{beside}"), path) for path in paths)
            outside = any(not self._inside(path) for path in paths)
            return f"{event} {arguments!r:.200}" if outside else None
        return None

    def _inside(self, path: Any) -> bool:
        try:
            text = os.path.realpath(os.fsdecode(path))
        except (TypeError, ValueError):
            return False
        return text == os.devnull or f"{text}{os.sep}".startswith(self._folders)

    def _legitimate(self) -> bool:
        """Whether a module is being imported, or the compiling is a library's own."""
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(_IMPORTING) or name.endswith((_FORMATTING, *self._generates)):
                return True
            frame = frame.f_back
        return False
