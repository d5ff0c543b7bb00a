"""Every fault of a sweep file is named in plain words, all of them in one message."""

import pickle
import re

import pytest

from sweeps.config import ConfigError, load_config, parse_config

GOOD = """
dataset: {name: mnist, validation: 5000}
model: {hidden: [512, 256], reference: [512, 256]}
training: {epochs: 10, batch_size: 256, lr: 3e-4, weight_decay: 0.01}
search: {trials: 4}
"""


@pytest.fixture
def write(tmp_path):
    def writer(content):
        path = tmp_path / "sweep.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writer


def message(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    text = str(caught.value)
    for jargon in (
        "pydantic",
        "https://",
        "type=",
        "Traceback",
        "NoneType",
        "input_value",
        "extra_forbidden",
    ):
        assert jargon not in text
    return text


# name: override, what the message says
VALUES = {
    "unknown key": ("training.epoch=3", "training.epoch: unknown key; did you mean training.epochs?"),
    "unknown section": ("serach.trials=3", "serach.trials: unknown key; did you mean search.trials?"),
    "key without its section": ("trials=3", "trials: unknown key; did you mean search.trials?"),
    "seed of a misspelt section": ("serach.seed=3", "did you mean search.seed?"),
    "key like no other": ("training.zzz=1", "training.zzz: unknown key; training has the keys epochs, "),
    "unknown all the way": ("a.b.c=1", "a.b.c: unknown key; a sweep file has the keys name, dataset, "),
    "part of a plain value": ("training.epochs.x=2", "training.epochs is 10, so it has no x"),
    "override without =": ("search.trials", "the override 'search.trials' has no =, must be"),
    "override that is no YAML": ("search.trials=[1", "search.trials: got '[1', which cannot be read: line 1"),
    "override with a key twice": ("training.lr={choice: [1], choice: [2]}", "the key choice is given twice"),
    "section as a word": ("training=fast", "training: got 'fast', must be a mapping with the keys epochs, "),
    "section as nothing": ("search=", "search: got nothing, must be a mapping with the keys trials, "),
    "text for a number": ("training.epochs=ten", "training.epochs: got 'ten', must be a whole number >= 1, "),
    "fraction for a whole number": ("training.epochs=2.5", "got 2.5, must be a whole number >= 1"),
    "true for a number": ("training.lr=true", "training.lr: got true, must be a number > 0"),
    "list for a number": ("search.trials=[4]", "search.trials: got [4], must be a whole number >= 1"),
    "nothing for a number": ("search.trials=", "search.trials: got nothing, must be a whole number >= 1"),
    "quoted number": ("training.lr='3e-4'", "training.lr: got '3e-4', must be a number > 0"),
    "nan": ("training.lr=.nan", "training.lr: got nan, must be a number > 0"),
    "infinity": ("training.lr=1e999", "training.lr: got inf, must be a number > 0"),
    "number of 5,000 digits": ("search.trials=" + "9" * 5000, "is not a usable number"),
    "unknown data set": ("dataset.name=mnits", "dataset.name: got 'mnits', must be digits, mnist, cifar10, "),
    "nearest data set": ("dataset.name=mnits", "did you mean mnist?"),
    "validation of nothing": ("dataset.validation=0", "got 0, must be a count of images >= 1"),
    "validation of everything": ("dataset.validation=1.0", "got 1.0, must be a count of images >= 1 or a"),
    "negative seed": ("dataset.seed=-1", "dataset.seed: got -1, must be a whole number from 0 to 4294967295"),
    "seed beyond NumPy's": ("search.seed=4294967296", "search.seed: got 4294967296, must be a whole number"),
    "path of a built-in data set": ("dataset.path=x", "dataset.path: is for the data set imagefolder only"),
    "size of a built-in data set": ("dataset.size=32", "dataset.size: is for the data set imagefolder only"),
    "test of a built-in data set": ("dataset.test=0.1", "dataset.test: is for the data set imagefolder only"),
    "image folder without a path": ("dataset.name=imagefolder", "dataset.path: missing, must be the path of"),
    "hidden width 0": ("model.hidden=[512, 0]", "got [512, 0], must be a list like [512, 256] of"),
    "no hidden layer": ("model.hidden=[]", "model.hidden: got [], must be a list"),
    "one width, no list": ("model.hidden=512", "model.hidden: got 512, must be a list"),
    "forgotten choice": ("model.hidden=[[64], [32]]", "write {choice: [...]} to search over several"),
    "searched reference": ("model.reference={choice: [[64]]}", "model.reference: got {"),
    "width 0 in a choice": ("model.hidden={choice: [[64], [0]]}", "model.hidden.choice[1]: got [0], must be"),
    "empty choice": ("model.hidden={choice: []}", "got [], must be a list of at least one"),
    "choice of no list": ("training.lr={choice: 0.1}", "got 0.1, must be a list of at least"),
    "option twice": ("model.factors={choice: [1, 2, 1]}", "got 1, which is in the list"),
    "option twice, as 1 and 1.0": ("training.lr={choice: [1, 1.0]}", "choice[1]: got 1.0, which is in the"),
    "misspelt form": ("model.hidden={chioce: [[64]]}", "did you mean choice?"),
    "form of another key": ("training.lr={int: [1, 2]}", 'got {"int": [1, 2]}, must be a number > 0, {'),
    "two forms": ("training.lr={uniform: [1, 2], choice: [1]}", "got the forms uniform and choice, must be"),
    "no form": ("training.lr={}", "training.lr: got {}, must be a number > 0, {choice: [...]}, "),
    "searched key that is fixed": ("search.trials={choice: [1]}", 'got {"choice": [1]}, must be a whole'),
    "lo = hi": ("training.lr={uniform: [0.1, 0.1]}", "got [0.1, 0.1], lo must be below hi"),
    "lo > hi": ("training.lr={loguniform: [1e-2, 1e-4]}", "got [0.01, 0.0001], lo must be"),
    "int lo > hi": ("model.factors={int: [3, 1]}", "model.factors.int: got [3, 1], lo must be below hi"),
    "int of fractions": ("model.factors={int: [1, 2.5]}", "hi got 2.5, must be a whole number"),
    "one bound": ("training.lr={uniform: [1]}", "training.lr.uniform: got [1], must be two numbers [lo, hi]"),
    "log of 0": ("training.weight_decay={loguniform: [0, 1]}", "lo got 0, must be a number > 0"),
    "dropout of 1": ("model.dropout=1", "model.dropout: got 1, must be a number >= 0 and < 1"),
    "dropout up to 1": ("model.dropout={uniform: [0, 1]}", "hi got 1, must be a number >= 0"),
    "factors 0": ("model.factors=0", "model.factors: got 0, must be a whole number >= 1"),
    "zero epochs": ("training.epochs=0", "training.epochs: got 0"),
    "zero batch": ("training.batch_size=0", "training.batch_size: got 0"),
    "zero lr": ("training.lr=0", "training.lr: got 0, must be a number > 0"),
    "negative decay": ("training.weight_decay=-1", "training.weight_decay: got -1, must be a number >= 0"),
    "smoothing of 1": ("training.label_smoothing=1.0", "got 1.0, must be a number >= 0"),
    "schedule": ("training.schedule=one-cycle", "got 'one-cycle', must be onecycle or cosine; did you"),
    "flip as yes": ("training.flip=yes", "training.flip: got 'yes', must be auto, true or false"),
    "flip as 1": ("training.flip=1", "training.flip: got 1, must be auto, true or false"),
    "basis": (
        "compression.basis=weights",
        "got 'weights', must be weight, activation, loss or {choice: [...]}",
    ),
    "rule": ("compression.rule=budget", "got 'budget', must be energy, entropy or {choice: [...]}"),
    "threshold 0": ("compression.energy=0", "compression.energy: got 0, must be a number > 0 and <= 1"),
    "threshold above 1": ("compression.energy=1.01", "got 1.01, must be a number > 0 and <= 1"),
    "range from 0": ("compression.energy={range: [0, 0.9]}", "lo got 0, must be a number"),
    "range beyond 1": ("compression.energy={range: [0.3, 1.3]}", "hi got 1.3, must be"),
    "range of nothing": ("compression.energy={range: [0.9, 0.3]}", "got [0.9, 0.3], lo must be below hi"),
    "range at 1": ("compression.energy={range: [0.9999995, 1]}", "lo got 0.9999995, must be below 0.999999"),
    "zero points": ("compression.energy={range: [0.3, 0.9], points: 0}", "got 0, must be"),
    "misspelt points": ("compression.energy={range: [0.3, 0.9], point: 3}", "did you mean points?"),
    "calibration of one": ("compression.calibration=1", "calibration: got 1, must be a whole number >= 2"),
    "negative recovery": ("compression.finetune_epochs=-1", "got -1, must be a whole number >= 0"),
    "distillation": ("compression.distillation.weight=1.5", "got 1.5, must be a number >= 0 and <= 1"),
    "temperature 0": ("compression.distillation.temperature=0", "got 0, must be a number > 0"),
    "zero trials": ("search.trials=0", "search.trials: got 0, must be a whole number >= 1"),
    "sampler": ("search.sampler=tpee", "got 'tpee', must be tpe, nsga2, random or qmc; did you mean tpe?"),
    "no objective": ("search.objectives=[]", "got [], must be a list of different names out of"),
    "unknown objective": ("search.objectives=[param]", 'got ["param"], must be a list'),
    "objective twice": ("search.objectives=[loss, loss]", 'got ["loss", "loss"], must be'),
    "objective as a word": ("search.objectives=loss", "search.objectives: got 'loss', must be a list"),
    "drop of 1": ("select.max_drop=1", "select.max_drop: got 1, must be a number >= 0 and < 1"),
    "no cpu": ("resources.cpu=0", "resources.cpu: got 0, must be a number > 0"),
    "negative gpu": ("resources.gpu=-1", "resources.gpu: got -1, must be auto or a number >= 0"),
    "pack of none": ("resources.pack=0", "resources.pack: got 0, must be auto or a whole number >= 1"),
    "misspelt auto": ("resources.concurrent=atuo", "got 'atuo', must be auto or a whole number >= 1; did"),
    "upper-case name": ("name=My Sweep", "got 'My Sweep', must be up to 64 lower-case letters, digits and"),
    "trials of a lifetime": (
        "search.trials=1000000000",
        "got 1000000000, must be a whole number >= 1; the most",
    ),
    "epochs without end": ("training.epochs=10000001", "or {int: [lo, hi]}; the most is 10000000"),
    "epochs up to no end": (
        "training.epochs={int: [1, 10000001]}",
        "hi got 10000001, must be a whole number",
    ),
    "a batch of everything": ("training.batch_size=1000000000", "{choice: [...]}; the most is 10000000"),
    "a layer as wide as a memory": ("model.hidden=[1000001]", "; the most is 100 layers of 1000000 units"),
    "a wide one among others": ("model.hidden={choice: [[8], [1000001]]}", "hidden.choice[1]: got [1000001]"),
    "a reference of many layers": (f"model.reference={[8] * 101}", "; the most is 100 layers of 1000000"),
    "many factors": ("model.factors=101", "or {int: [lo, hi]}; the most is 100"),
    "a large pack": ("resources.pack=1000000000", "or a whole number >= 1; the most is 10000000"),
    "much recovery": ("compression.finetune_epochs=1000000000", ">= 0; the most is 10000000"),
    "much calibration": ("compression.calibration=10000000000", ">= 2; the most is 1000000000"),
    "a key that is gone": ("search.inject=8", "this key is gone, since further points of a member misled"),
    "no key": ("=5", "the override '=5' has no key before the =, must be section.key=value"),
    "key of two lines": ("search.\ntrials=5", "search.\\ntrials: unknown key; did you mean search.trials?"),
    "a comment after a word": ("search.sampler=tpe # fast", "got 'tpe # fast', must be tpe, nsga2"),
    "a comment after a form": ("model.hidden=[8] # [9]", "a # begins a comment in YAML, so what follows"),
    "a block of YAML": ("training.lr=uniform: [0.1, 1]", "got 'uniform: [0.1, 1]', must be a number > 0"),
    "a list item": ("search.objectives=- loss", "got '- loss', must be a list of different names"),
    "an anchor": ("search.trials=&a 4", "search.trials: got '&a 4', must be a whole number"),
    "a date": ("search.trials=2026-01-02", "search.trials: got '2026-01-02', must be a whole number"),
    "bytes that are no text": ("name=\udcff", "name: got '\\udcff', which cannot be read: it is not UTF-8"),
}


@pytest.mark.parametrize(("override", "says"), VALUES.values(), ids=VALUES)
def test_bad_value(write, override, says):
    text = message(write(GOOD), [override])
    assert says in text
    section = override.partition("=")[0].partition(".")[0]
    assert re.search(rf"^sweep file '.*' with its overrides has a fault:\n  (the override ')?{section}", text)
    assert text.count("\n") == 1


ENTROPY = {
    "both fixed": ["compression.rule=entropy", "compression.basis=activation"],
    "rule searched": ["compression.rule={choice: [energy, entropy]}", "compression.basis=activation"],
    "default basis": ["compression.rule=entropy"],
}


@pytest.mark.parametrize("overrides", ENTROPY.values(), ids=ENTROPY)
def test_entropy_without_weight_basis(write, overrides):
    text = message(write(GOOD), overrides)
    assert "compression.rule: got entropy, which works in the weight basis only" in text


# name: content, what the message says
FILES = {
    "empty": ("", "it is empty; it needs the keys dataset, model, training and search"),
    "only comments": ("# nothing\n", "it is empty"),
    "a list": ("- a\n- b\n", 'got ["a", "b"], must be a mapping such as dataset: {name: mnist}'),
    "a word": ("hello", "got 'hello', must be a mapping"),
    "tab as indentation": ("search:\n\ttrials: 4\n", "line 2, column 1: a tab, YAML takes spaces only"),
    "tab further down": (GOOD + "\tx: 1\n", "line 6, column 1: a tab"),
    "open bracket": ("a: [1", "line 1, column 6: not valid YAML: expected ',' or ']'"),
    "two colons": ("a: b: c", "not valid YAML: mapping values are not allowed here"),
    "not UTF-8": (b"\xff\xfe\x00", "it is not UTF-8 text: byte 0 fits no character"),
    "control character": ("a: \x07", "a control character (character 3 of the text)"),
    "10 MB": (b"#" * 10_000_000, "it is larger than 1 MB, which no sweep file is"),
    "past the last character": ('name: "\\U00110000"', "not valid YAML: chr() arg not in range"),
    "half of a character": ('a: "\\ud800"', "line 1, column 4: half of a character"),
    "alias bomb": (
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "line 2, column 8: an alias (*name) is not allowed",
    ),
    "alias of itself": ("a: &a [*a]", "an alias (*name) is not allowed"),
    "python object": (
        'x: !!python/object/apply:os.system ["true"]',
        "line 1, column 4: the tag !!python/object/apply:os.system is not allowed",
    ),
    "python name": ("x: !!python/name:os.system", "the tag !!python/name:os.system is not allowed"),
    "python module": ("x: !!python/module:os", "the tag !!python/module:os is not allowed"),
    "own tag": ("x: !thing 3", "the tag !thing is not allowed"),
    "binary": ("x: !!binary aa", "the tag !!binary is not allowed"),
    "tagged number that is none": ("x: !!int abc", "'abc' is not a usable number"),
    "list as a key": ("[1, 2]: 3", "line 1, column 1: a key is a list or mapping, must be a word"),
    "two documents": ("a: 1\n---\nb: 1", "line 2, column 1: a second document (---), must be one"),
    "100,000 brackets": ("x: " + "[" * 100_000, "deeper nesting than any sweep file needs"),
    "20,000 values": ("x: [" + "1," * 20_000 + "]", "more values or deeper nesting"),
    "key twice": (GOOD + "search: {trials: 5}\n", "line 6, column 1: the key search is given twice"),
    "merge key": (GOOD + "<<: {a: 1}\n", "<<: unknown key"),
    "escapes in a key": ('"a\\e[31m\\nb": 1', "  a\\x1b[31m\\nb: unknown key"),
    "number as name": (GOOD + "name: 12\n", "name: got 12, must be"),
    "missing section": ("dataset: {name: mnist}", "missing, must be a mapping with at least epochs"),
    "missing key": (
        GOOD.replace("epochs: 10, ", ""),
        "training.epochs: missing, must be a whole number >= 1, {",
    ),
}


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_bad_file(write, content, says):
    assert says in message(write(content))


def test_misspelt_required_key_is_one_fault(write):
    text = message(write(GOOD.replace("epochs", "epoch").replace("search:", "serach:")))
    assert text.splitlines()[1:] == [
        "  training.epoch: unknown key; did you mean training.epochs?",
        "  serach: unknown key; did you mean search?",
    ]


def test_all_faults_in_one_message(write):
    content = """
name: My Sweep
datset: {name: mnist}
dataset: mnist
model: {hidden: {choice: [[64], [0], []]}, dropout: 1.0, reference: [512, 0], factors: {int: [3, 1]}}
training: {epochs: 0, batch_size: 64, lr: {loguniform: [0, -1]}, weight_decay: 0.1, batch: 3}
compression: {basis: activation, rule: entropy, energy: {range: [0.3, 1.3], points: 0}, finetune_points: 0}
search: {trials: 4}
search: {trials: 0, objectives: [accuracy, accuracy]}
"""
    text = message(write(content), ["select.max_drop=2", "resources.cpus=2"])
    keys = [line.strip().partition(": ")[0] for line in text.splitlines()[1:]]
    assert sorted(keys) == sorted(
        [
            "line 9, column 1",
            "name",
            "datset",
            "dataset",
            "model.hidden.choice[1]",
            "model.hidden.choice[2]",
            "model.dropout",
            "model.reference",
            "model.factors.int",
            "training.epochs",
            "training.lr.loguniform",
            "training.lr.loguniform",
            "training.batch",
            "compression.rule",
            "compression.energy.range",
            "compression.energy.points",
            "compression.finetune_points",
            "search.trials",
            "search.objectives",
            "select.max_drop",
            "resources.cpus",
        ]
    )
    assert f"has {len(keys)} faults:" in text.splitlines()[0]


# name: source, what the message says
SOURCES = {
    "misspelt bundled name": ("mnits", "the bundled ones are cifar10, cifar100, digits and mnist; did you m"),
    "bundled name with a suffix": ("mnist.yaml", "did you mean mnist?"),
    "missing file": ("nowhere/x.yaml", "there is no such file"),
    "folder": (".", "it is a folder, must be a file"),
    "NUL in the name": ("a\0b", "it cannot be read"),
}


@pytest.mark.parametrize(("source", "says"), SOURCES.values(), ids=SOURCES)
def test_bad_source(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    assert says in message(source)


def test_error_survives_a_pickle_since_ray_sends_it():
    error = ConfigError("sweep file 'x'", ["a: got 1", "b: got 2"])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "sweep file 'x' has 2 faults:\n  a: got 1\n  b: got 2"
    assert copy.faults == error.faults


def test_mapping_from_python():
    with pytest.raises(ConfigError, match=r"the sweep configuration has 5 faults:(.|\n)*3: unknown key"):
        parse_config({3: 4})
