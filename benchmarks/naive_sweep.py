"""The sweep that one writes from Ray Tune's documentation: what this project is compared with.

A trial trains one network with a DataLoader, cuts its layers at one energy threshold (weight basis, the rule
of arXiv 2504.20078 v1) and reports accuracy on validation and the number of parameters. Optuna proposes
widths, hyperparameters and the threshold for both. Ray Tune runs a trial a core, as it does by default. Data,
ranges, epochs, batch size, optimizer and schedule are those of the bundled MNIST sweep, without its tricks.

Variants, each with one change: `reuse` keeps the trials' processes, as a class trainable; `memory` also keeps
the images as one tensor in place of a DataLoader; `activation` is the plain script with this library's basis.

All variants draw the same first trials: OptunaSearch has one seed, and TPE, its sampler, draws at random
until 10 trials have ended. The log says what was drawn.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from torchvision import datasets, transforms

VARIANTS = ("plain", "reuse", "memory", "activation")
HIDDEN = ([512, 256], [256, 128], [128, 64], [64, 32], [32], [12])
BATCH_SIZE = 256
VALIDATION = 5000
SPACE = {
    "hidden": tune.choice([json.dumps(hidden) for hidden in HIDDEN]),  # Optuna takes no lists as choices
    "dropout": tune.uniform(0.0, 0.3),
    "lr": tune.loguniform(1e-3, 1e-2),
    "weight_decay": tune.loguniform(1e-2, 0.5),
    "label_smoothing": tune.choice([0.0, 0.1]),
    "energy": tune.uniform(0.3, 0.999),
}


def load_splits(data_dir: str) -> tuple[Dataset[Any], Dataset[Any]]:
    """Read MNIST and hold 5,000 training images out."""
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    whole = datasets.MNIST(data_dir, train=True, transform=prepare)
    train, validation = random_split(
        whole, [len(whole) - VALIDATION, VALIDATION], generator=torch.Generator().manual_seed(0)
    )
    return train, validation


def in_memory(split: Dataset[Any]) -> TensorDataset:
    """Turn a split into tensors once."""
    images, labels = next(iter(DataLoader(split, batch_size=len(split))))  # type: ignore[arg-type]
    return TensorDataset(images, labels)


def batches(split: Dataset[Any], size: int, shuffle: bool) -> Any:
    """Iterate over batches: whole tensors are indexed, anything else goes through a DataLoader."""
    if not isinstance(split, TensorDataset):
        return DataLoader(split, batch_size=size, shuffle=shuffle, drop_last=shuffle)
    images, labels = split.tensors
    order = torch.randperm(len(images)) if shuffle else torch.arange(len(images))
    count = len(images) - len(images) % size if shuffle else len(images)
    return ((images[part], labels[part]) for part in order[:count].split(size))


def build(hidden: list[int], dropout: float) -> nn.Sequential:
    """Make the network."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 784
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def fit(config: dict[str, Any], train: Dataset[Any], epochs: int) -> nn.Sequential:
    """Train a network."""
    model = build(json.loads(config["hidden"]), config["dropout"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"], fused=True
    )
    steps = len(train) // BATCH_SIZE  # type: ignore[arg-type]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config["lr"], total_steps=epochs * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=config["label_smoothing"])
    model.train()
    for _ in range(epochs):
        for images, labels in batches(train, BATCH_SIZE, shuffle=True):
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def truncate(model: nn.Sequential, energy: float) -> nn.Sequential:
    """Replace each layer by two, at the smallest rank that keeps the energy, where that is smaller."""
    layers: list[nn.Module] = []
    for layer in model:
        if not isinstance(layer, nn.Linear):
            layers.append(layer)
            continue
        left, sigma, right = torch.linalg.svd(layer.weight, full_matrices=False)
        kept = torch.cumsum(sigma**2, 0) / (sigma**2).sum()
        rank = min(int((kept < energy).sum()) + 1, len(sigma))
        if rank * (layer.in_features + layer.out_features) >= layer.weight.numel():
            layers.append(layer)
            continue
        first, second = (
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features),
        )
        first.weight.copy_(sigma[:rank, None] * right[:rank])
        second.weight.copy_(left[:, :rank])
        second.bias.copy_(layer.bias)
        layers += [first, second]
    return nn.Sequential(*layers).eval()


def truncate_by_activations(model: nn.Sequential, energy: float, train: Dataset[Any]) -> nn.Module:
    """Do the same with this library: the activation basis, from 10,000 training images."""
    import arsvd

    images, _ = next(iter(DataLoader(train, batch_size=10_000)))
    found = arsvd.spectra(model, images, basis="activation")
    return arsvd.compress(model, found, arsvd.plan(found, arsvd.Energy(energy)))


@torch.no_grad()
def accuracy(model: nn.Module, split: Dataset[Any]) -> float:
    """Measure the share of right answers."""
    right = 0
    for images, labels in batches(split, 1000, shuffle=False):
        right += int((model(images).argmax(1) == labels).sum())
    return right / len(split)  # type: ignore[arg-type]


def measure(config: dict[str, Any], train: Dataset[Any], validation: Dataset[Any]) -> dict[str, float]:
    """Run one trial."""
    began = time.perf_counter()
    model = fit(config, train, config["epochs"])
    seconds = time.perf_counter() - began
    if config["variant"] == "activation":
        small: nn.Module = truncate_by_activations(model, config["energy"], train)
    else:
        small = truncate(model, config["energy"])
    params = sum(parameter.numel() for parameter in small.parameters())
    return {"accuracy": accuracy(small, validation), "params": params, "train_seconds": seconds}


def train_mnist(config: dict[str, Any]) -> None:
    """Be a function trainable, as the documentation begins with."""
    tune.report(measure(config, *load_splits(config["data_dir"])))


class TrainMnist(tune.Trainable):
    """The same as a class whose process goes on with the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        """Load the data once."""
        train, validation = load_splits(config["data_dir"])
        if config["variant"] == "memory":
            train, validation = in_memory(train), in_memory(validation)
        self.splits = train, validation

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another configuration."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run one trial."""
        return {**measure(self.config, *self.splits), "done": True}


class Log(tune.Callback):
    """Writes each trial's result, what was drawn for it and when it came, a JSON line each."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
        """Write a line."""
        names = ("accuracy", "params", "train_seconds")
        line = {"time": time.time(), **{name: result[name] for name in names}}
        line["drawn"] = {name: trial.config[name] for name in SPACE}
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--variant", choices=VARIANTS, default="plain")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--storage", required=True, help="where Tune keeps its files")
    parser.add_argument("--log", required=True, help="a JSON line for each trial")
    given = parser.parse_args()
    trainable = train_mnist if given.variant in ("plain", "activation") else TrainMnist
    fixed = {"data_dir": given.data_dir, "epochs": given.epochs, "variant": given.variant}
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={**SPACE, **fixed},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["accuracy", "params"], mode=["max", "min"], seed=0),
            num_samples=given.trials,
            reuse_actors=trainable is TrainMnist,
        ),
        run_config=tune.RunConfig(storage_path=given.storage, callbacks=[Log(given.log)], verbose=0),
    )
    tuner.fit()


if __name__ == "__main__":
    main()
