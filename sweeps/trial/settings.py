"""The settings in a member's configuration that belong to training methods."""

from typing import Any

from arsvd.training.methods import METHODS
from sweeps.config import MemberConfig

FLIP = "training.flip"
_OF_RECOVERY = "compression."


def method_settings(config: MemberConfig, recovery: bool = False) -> dict[str, Any]:
    """Return the values of the methods' options, by their keys.

    Args:
        config: configuration of the member.
        recovery: True for the training after compression, whose options stand in the section `compression`;
            False for the training before it.
    """
    return {
        option.key: getattr(config, option.field)
        for _, method in METHODS.items()
        for option in method.options
        if option.key.startswith(_OF_RECOVERY) == recovery and option.key != FLIP
    }
