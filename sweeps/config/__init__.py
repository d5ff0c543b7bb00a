"""Sweep files: read, checked, and turned into a search space and its members."""

from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names
from sweeps.config.checking import parse_config
from sweeps.config.faults import ConfigError
from sweeps.config.loading import bundled_configs, config_to_params, dump_config, load_config
from sweeps.config.member import MemberConfig, member_seed
from sweeps.config.schema import SweepConfig

if TYPE_CHECKING:
    from sweeps.config.space import Space

__all__ = [
    "ConfigError",
    "MemberConfig",
    "Space",
    "SweepConfig",
    "bundled_configs",
    "config_to_params",
    "dump_config",
    "load_config",
    "member_seed",
    "parse_config",
]

# a search space is Optuna's, which checking a sweep file does not need
__getattr__ = lazy_names(__name__, {"space": ("Space",)})
