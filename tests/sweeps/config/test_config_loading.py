"""Sweep files read, overridden, written and read again."""

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import sweeps.config
from arsvd.options.forms import Choice, EnergyRange, IntRange, LogUniform, Uniform
from sweeps.config import (
    ConfigError,
    bundled_configs,
    config_to_params,
    dump_config,
    load_config,
    parse_config,
)
from sweeps.config.yaml_text import read_yaml

MINIMAL = {
    "dataset": {"name": "digits"},
    "model": {"hidden": [64], "reference": [128, 64]},
    "training": {"epochs": 1, "batch_size": 8, "lr": 1e-3, "weight_decay": 0},
    "search": {"trials": 1},
}


def written(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def with_value(key, value):
    mapping = {name: dict(section) for name, section in MINIMAL.items()}
    section, _, leaf = key.partition(".")
    mapping.setdefault(section, {})[leaf] = value
    return parse_config(mapping)


def test_bundled_names():
    assert bundled_configs() == ("cifar10", "cifar100", "digits", "mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits", "mnist"])
def test_bundled_file(name, tmp_path):
    config = load_config(name)
    assert config.name == config.dataset.name == name
    assert config.model.reference in config.model.hidden.options
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_bundled_choices_that_the_documentation_promises():
    mnist = load_config("mnist")
    assert mnist.model.hidden == Choice(((512, 256), (256, 128), (128, 64), (64, 32), (32,), (12,)))
    assert mnist.model.reference == (512, 256)
    assert (mnist.search.trials, mnist.training.epochs, mnist.training.batch_size) == (64, 10, 256)
    assert mnist.compression.energy == EnergyRange(0.3, 0.999, 48)
    assert load_config("digits").search.trials == 32


def test_minimal_file_and_its_defaults():
    config = parse_config(MINIMAL)
    assert config.name == "digits"
    assert config.dataset.validation == 0.1
    assert config.compression.energy == EnergyRange(0.3, 0.999, 48)
    assert config.search.objectives == ("accuracy", "params")
    assert config.select.max_drop == 0.005
    assert (config.resources.cpu, config.resources.gpu, config.resources.pack) == (1.0, "auto", "auto")


def test_dataset_section_is_the_arguments_of_the_loader():
    section = {
        "name": "imagefolder",
        "path": "pets",
        "validation": 20,
        "seed": 1,
        "size": [24, 32],
        "test": 0.3,
    }
    folder = parse_config({**MINIMAL, "dataset": section}).dataset.values
    others = {"label": None, "confirmation": None}
    assert folder == section | {"size": (24, 32)} | others
    digits = parse_config(MINIMAL).dataset.values
    unset = dict.fromkeys(("path", "size", "test")) | others
    assert digits == {"name": "digits", "validation": 0.1, "seed": 0} | unset


@pytest.mark.parametrize("size", [0, [32], [32, 0], True, "32", [1, 2, 3]])
def test_an_invalid_image_size_is_refused(size):
    section = {"name": "imagefolder", "path": "pets", "size": size}
    with pytest.raises(ConfigError, match=r"dataset\.size: got .*, must be a whole number of pixels >= 1 or"):
        parse_config({**MINIMAL, "dataset": section})


@pytest.mark.parametrize("size", [10_001, [8, 10**9]])
def test_image_size_that_fits_no_memory(size):
    section = {"name": "imagefolder", "path": "pets", "size": size}
    with pytest.raises(ConfigError, match=r"dataset\.size: got .*, must be .*; the most is 10000"):
        parse_config({**MINIMAL, "dataset": section})


def test_image_folder_gets_a_test_fraction_and_others_none():
    folder = parse_config({**MINIMAL, "dataset": {"name": "imagefolder", "path": "pets", "size": 32}})
    assert (folder.dataset.path, folder.dataset.size, folder.dataset.test) == ("pets", 32, 0.2)
    assert parse_config(MINIMAL).dataset.test is None


# name: key, raw value, what the configuration holds
FORMS = {
    "widths": ("model.hidden", [512, 256], (512, 256)),
    "choice of widths": ("model.hidden", {"choice": [[8], [4, 2]]}, Choice(((8,), (4, 2)))),
    "choice of counts": ("model.factors", {"choice": [1, 2]}, Choice((1, 2))),
    "int": ("training.epochs", {"int": [1, 3]}, IntRange(1, 3)),
    "choice of epochs": ("training.epochs", {"choice": [5, 10]}, Choice((5, 10))),
    "uniform": ("model.dropout", {"uniform": [0, 0.3]}, Uniform(0.0, 0.3)),
    "loguniform": ("training.lr", {"loguniform": [1e-4, 1e-2]}, LogUniform(1e-4, 1e-2)),
    "whole learning rate": ("training.lr", 1, 1.0),
    "decay from 0": ("training.weight_decay", {"uniform": [0, 1]}, Uniform(0.0, 1.0)),
    "one threshold": ("compression.energy", 1, 1.0),
    "choice of thresholds": ("compression.energy", {"choice": [0.9, 1]}, Choice((0.9, 1.0))),
    "range": ("compression.energy", {"range": [0.5, 1]}, EnergyRange(0.5, 1.0, 48)),
    "recovery rate": ("compression.finetune_lr", {"loguniform": [1e-4, 1e-2]}, LogUniform(1e-4, 1e-2)),
    "flip": ("training.flip", True, True),
    "count": ("dataset.validation", 100, 100),
    "fraction": ("dataset.validation", 0.25, 0.25),
    "part of a gpu": ("resources.gpu", 0.5, 0.5),
    "pack": ("resources.pack", 8, 8),
    "training seed": ("training.seed", 3, 3),
}


@pytest.mark.parametrize(("key", "raw", "held"), FORMS.values(), ids=FORMS)
def test_searched_forms_are_read_and_written_back(tmp_path, key, raw, held):
    config = with_value(key, raw)
    section, _, leaf = key.partition(".")
    value = getattr(getattr(config, section), leaf)
    assert value == held
    assert type(value) is type(held)
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_distillation_can_be_searched():
    distillation = {"weight": {"uniform": [0.5, 1]}, "temperature": {"loguniform": [1, 8]}}
    config = with_value("compression.distillation", distillation)
    assert config.compression.distillation.weight == Uniform(0.5, 1.0)
    assert config.compression.distillation.temperature == LogUniform(1.0, 8.0)


# YAML 1.1 has another idea of each of these
@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1E+2", 100.0), (".5", 0.5), ("2.", 2.0), ("1_000.5", 1000.5), ("010", 10.0)],
)
def test_number_as_people_write_it(text, value):
    assert load_config("digits", [f"training.lr={text}"]).training.lr == value


def test_overrides():
    config = load_config(
        "mnist",
        [
            "search.trials=8",
            "search.trials=16",
            "model.hidden=[64,32]",
            "training.lr={loguniform: [1e-4,1e-2]}",
            "compression.energy.points=12",
            "compression.distillation.temperature=3",
            " name = quick ",
            "resources={cpu: 2}",
            "training.seed=",
        ],
    )
    assert config.search.trials == 16
    assert config.model.hidden == (64, 32)
    assert config.training.lr == LogUniform(1e-4, 1e-2)
    assert config.compression.energy == EnergyRange(0.3, 0.999, 12)
    assert config.compression.distillation.temperature == 3.0
    assert config.name == "quick"
    assert config.resources.cpu == 2.0
    assert config.training.seed is None


AS_TYPED = (
    "/data/set #2", "/data/set#2", "a & b", "&a", "@eaDir", "%x", "*", "!important", "a: b", "a:", "- a", "-",
    " lead", "trail ", "  ", "'single'", '"double"', "it's", "C:\\pets\\new", "~", "~/pets", "null", "true",
    "yes", "1e-3", "012", "0x1F", "1_000", ".inf", "2026-01-02", "12:30:45", "[pets]", "{pets}", "[", "a, b",
    "a=b", "=", "|", ">", "?", "---", "...", "<<", "tab\there", "two\nlines", "\a", "été", "猫",
    "\u2028", "\ufeff",
)  # fmt: skip


@pytest.mark.parametrize("path", AS_TYPED)
def test_an_override_of_text_is_taken_as_typed(tmp_path, path):
    config = load_config("digits", ["dataset.name=imagefolder", f"dataset.path={path}"])
    assert config.dataset.path == path
    # and so it is in the sweep's own file, and as the parameter that MLflow shows
    assert load_config(written(tmp_path, dump_config(config))) == config
    assert config_to_params(config)["dataset.path"] == path


@pytest.mark.parametrize("key", ["name", "dataset.label"])
@pytest.mark.parametrize("name", ["012", "1e-3", "null", "yes", "2026-01-02"])
def test_a_name_that_yaml_takes_for_something_else(tmp_path, key, name):
    config = load_config("digits", [f"{key}={name}"])
    assert config_to_params(config)[key] == name
    assert load_config(written(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize("override", ["search.trials = 8", " search.trials =8", "search.trials= 8 "])
def test_spaces_around_an_override_do_not_count(override):
    assert load_config("digits", [override]).search.trials == 8


def test_spaces_in_an_override_count_where_they_are_part_of_a_path():
    folder = ["digits", ["dataset.name=imagefolder", "dataset.path = /data/a b "]]
    assert load_config(*folder).dataset.path == "/data/a b"


def test_an_empty_override_leaves_a_text_out(tmp_path):
    section = {"name": "imagefolder", "path": "pets", "size": 8}
    path = written(tmp_path, dump_config(parse_config({**MINIMAL, "name": "own", "dataset": section})))
    changes = ["dataset.name=digits", "dataset.path=", "dataset.size=null", "dataset.test=", "name="]
    config = load_config(path, changes)
    assert (config.name, config.dataset.path, config.dataset.size) == ("digits", None, None)


def test_override_fills_a_section_that_the_file_leaves_out(tmp_path):
    path = written(tmp_path, dump_config(parse_config(MINIMAL)).replace("select: {max_drop: 0.005}\n", ""))
    assert load_config(path, ["select.max_drop=0.01"]).select.max_drop == 0.01


def test_file_of_a_bundled_name_is_reached_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "mnist").write_text(dump_config(parse_config(MINIMAL)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_config("./mnist").dataset.name == "digits"
    assert load_config("mnist").dataset.name == "mnist"


def test_a_byte_order_mark_is_not_a_fault(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + dump_config(parse_config(MINIMAL)).encode())
    assert load_config(path) == parse_config(MINIMAL)


def test_params_are_flat_and_read_back_as_overrides():
    config = load_config("cifar10")
    params = config_to_params(config)
    assert params["dataset.name"] == "cifar10"
    assert params["training.lr"] == '{"loguniform": [0.0003, 0.005]}'
    assert params["compression.distillation.weight"] == "0.9"
    assert "dataset.path" not in params
    assert load_config("cifar100", [f"{key}={value}" for key, value in params.items()]) == config


@given(st.one_of(st.text(min_size=1), st.from_regex(r"[0-9_.eE+-]{1,8}", fullmatch=True)))
def test_any_path_is_written_so_that_it_reads_back(path):
    config = parse_config({**MINIMAL, "dataset": {"name": "imagefolder", "path": path}})
    try:
        text = dump_config(config)
        text.encode()
    except UnicodeEncodeError:
        return
    assert parse_config(read_yaml(text)[0]) == config


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True))
def test_any_name_is_written_so_that_it_reads_back(name):
    config = parse_config({**MINIMAL, "name": name})
    assert parse_config(read_yaml(dump_config(config))[0]) == config


def test_dump_is_yaml_that_any_reader_takes():
    assert yaml.safe_load(dump_config(load_config("mnist")))["model"]["reference"] == [512, 256]


def test_a_configuration_does_not_change():
    config = load_config("digits")
    with pytest.raises(FrozenInstanceError):
        config.search.trials = 3
    assert hash(config) == hash(load_config("digits"))


def test_import_is_lean():
    code = (
        "import sys, sweeps.config; heavy = 'ray', 'mlflow', 'torch', 'torchvision', 'optuna', 'numpy'; "
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_only_the_space_imports_optuna():
    files = sorted(Path(sweeps.config.__file__).parent.glob("*.py"))
    importing = [file.name for file in files if re.search(r"^(from|import) optuna", file.read_text(), re.M)]
    assert len(files) > 5
    assert importing == ["space.py"]
