"""A Ray Tune trial that does nothing: what is left is Tune's own time. Imports no torch."""

from typing import Any

from ray import tune


class NothingTrainable(tune.Trainable):
    """Ends after one step, as a pack does."""

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare nothing."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next pack in the same process."""
        return True

    def step(self) -> dict[str, Any]:
        """Say that the pack is done."""
        return {"keys": [], "done": True}
