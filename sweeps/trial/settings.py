"""What a member's configuration says to the methods of training."""

from typing import Any

from arsvd.training.methods import METHODS
from sweeps.config import MemberConfig

FLIP = "training.flip"
_OF_RECOVERY = "compression."


def method_settings(config: MemberConfig, recovery: bool = False) -> dict[str, Any]:
    """Return the values of the methods' options, by their keys.

    Args:
        config: the member.
        recovery: whether it is for the training after compression, whose options stand in the section
            `compression`; the others are for the training before it.
    """
    return {
        option.key: getattr(config, option.field)
        for _, method in METHODS.items()
        for option in method.options
        if option.key.startswith(_OF_RECOVERY) == recovery and option.key != FLIP
    }
