"""Sweep files and the overrides that follow them on the command line."""

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

from sweeps.config import ConfigError, Space, bundled_configs, config_to_params, dump_config, load_config
from tests.fuzz.contract import Seed, Target
from tests.fuzz.mutation.yaml_text import mutate_override, mutate_yaml

_OVERRIDES = (
    "search.trials=16",
    "model.hidden={choice: [[64], [128, 64]]}",
    "training.lr={loguniform: [1e-4, 1e-2]}",
    "training.lr={uniform: [0.1, 0.2]}",
    "training.epochs={int: [1, 5]}",
    "compression.energy={range: [0.3, 0.999], points: 12}",
    "compression.families=[threshold, budget]",
    "compression.distillation={weight: 0.5}",
    "search.objectives=[accuracy, macs]",
    "dataset={name: imagefolder, path: /data, size: [32, 32], test: 0.1}",
    "training.flip=false",
    "resources.gpu=auto",
    "name=my-sweep",
)


@cache
def _files() -> tuple[Seed, ...]:
    folder = resources.files("sweeps") / "configs"
    found = [Seed("sweep.yaml", (folder / f"{name}.yaml").read_bytes()) for name in bundled_configs()]
    return (*found, Seed("sweep.yaml", dump_config(load_config("digits")).encode()))


def _used(source: str | Path, overrides: tuple[str, ...] = ()) -> None:
    """Use a configuration as a sweep does before its first trial."""
    config = load_config(source, overrides)
    space = Space.from_config(config)
    _ = space.distributions, space.energies(), config_to_params(config)
    # a sweep files what it runs, and `resume` reads that
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again.yaml"
        again.write_text(dump_config(config), encoding="utf-8")
        assert load_config(again) == config


TARGETS = (
    Target(
        name="sweep-file",
        seeds=_files,
        place=lambda folder, name: folder / name,
        read=_used,
        refusals=(ConfigError,),
        mutate=mutate_yaml,
        examples=40,
        special=False,  # the user names it, and may well name a pipe: /dev/stdin
    ),
    Target(
        name="overrides",
        seeds=lambda: tuple(Seed("override", text.encode()) for text in _OVERRIDES),
        place=lambda folder, name: folder / name,
        read=lambda path: _used("digits", (path.read_text(encoding="utf-8", errors="surrogateescape"),)),
        refusals=(ConfigError,),
        mutate=mutate_override,
        examples=40,
        special=False,
    ),
)
