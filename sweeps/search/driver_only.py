"""Objects that belong to the driver's process."""

from typing import Any, Self


class DriverOnly:
    """A mixin for objects that are handed to Ray Tune and must not be copied.

    Tune pickles and copies whatever it is given, for a restore that this project does not use: sweeps resume
    from the ledger. A pickled copy is empty; an in-memory copy is the object itself.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
