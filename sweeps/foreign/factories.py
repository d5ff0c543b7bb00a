"""Functions that build models, found by their names on the command line."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn


def find_factory(name: str) -> Callable[[], nn.Module]:
    """Find a function by its name on the command line, also in modules of the working directory.

    Use it only for names that the user types, never for names from a file: importing a module runs it. Its
    output goes to stderr, and the working directory is restored.

    Args:
        name: text of the form "module:function".

    Returns:
        The function; whatever it raises becomes a ValueError.

    Raises:
        ValueError: the name has another form, or there is no such function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"a factory is named module:function, got {name!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _contained(f"the module of the factory {name!r} cannot be imported"):
        found = getattr(importlib.import_module(module_name), function_name, None)
    if not callable(found):
        raise ValueError(f"the module {module_name!r} has no function {function_name!r}")

    def make() -> nn.Module:
        with _contained(f"the factory {name!r} failed"):
            made = found()
        if not isinstance(made, nn.Module):
            raise ValueError(f"the factory {name!r} must make an nn.Module, it made a {type(made).__name__}")
        return made

    return make


@contextlib.contextmanager
def _contained(failure: str) -> Iterator[None]:
    """Run the user's code: errors become one line, output is kept apart, the folder is restored."""
    folder = Path.cwd()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:  # Ctrl-C
        raise
    except BaseException as error:  # SystemExit too: a script may be written to be run, not imported
        raise ValueError(f"{failure}: {error!r}") from error
    finally:
        os.chdir(folder)
