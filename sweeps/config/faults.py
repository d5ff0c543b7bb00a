"""The one error that carries every fault of a sweep file."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """A sweep file, or an override, that cannot be used.

    Args:
        source: description of what was read, such as ``sweep file 'mnist.yaml'``.
        faults: every fault found, one line each: the key, what it got, what is allowed.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__(source, tuple(faults))
        self.source = source
        self.faults = tuple(faults)

    def __str__(self) -> str:
        count = "a fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        return "\n".join([f"{self.source} has {count}:", *(f"  {fault}" for fault in self.faults)])
