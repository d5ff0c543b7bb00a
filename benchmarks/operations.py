"""Count what torch does: on a GPU each operation is launched by itself, whatever its size."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched while it is entered.

    Attributes:
        names: of the operations, with how often each was dispatched so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count one operation and run it."""
        self.names[func._schema.name] += 1
        return func(*args, **(kwargs or {}))
