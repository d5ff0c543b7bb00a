"""Sweep files: read, checked, and turned into a search space and its members."""

from sweeps.config.checking import parse_config
from sweeps.config.faults import ConfigError
from sweeps.config.loading import bundled_configs, config_to_params, dump_config, load_config
from sweeps.config.member import MemberConfig, member_seed
from sweeps.config.schema import SweepConfig
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
