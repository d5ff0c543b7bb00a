"""Members a minute at pack sizes 1 to 512, with torch alone: `python -m benchmarks.gpu --data-dir DIR`.

Every pack trains 784-512-256-10 for 10 epochs at batch 256, as a sweep does: weights drawn, trained, measured
after each epoch. The baseline, in the same process on the same data, is what one writes without packs: a loop
over members, each an `nn.Sequential` with `torch.optim.AdamW`, its data on the device. Without a GPU both run
for fewer epochs on fewer images, and the JSON says so; without MNIST, on made-up images of its shape.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.data import DataError, Dataset, load
from arsvd.data.dataset import Split, describe
from arsvd.training import Hyperparameters, Pack, dense_architecture, normalized, train
from arsvd.training.schedules.one_cycle import one_cycle
from benchmarks.environment import environment
from benchmarks.gpu_analysis import both_ways

WIDTHS, EPOCHS, BATCH, IMAGES, VALIDATION = (784, 512, 256, 10), 10, 256, 55_000, 5_000
LR, DECAY = 2e-3, 0.05
FORBIDDEN = ("ray", "mlflow", "optuna")
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        packs: sizes.
        precisions: of the packs; the baseline has the first.
        singles: members of the baseline.
        epochs: of each.
        images: to train on.
        analysed: members whose spectra and fronts are timed, one by one and together.
    """

    packs: tuple[int, ...]
    precisions: tuple[str, ...]
    singles: int
    epochs: int
    images: int
    analysed: int


FULL = Scale(tuple(2**n for n in range(10)), ("tf32", "bfloat16"), 8, EPOCHS, IMAGES, 64)
SMALL_ON_CUDA = Scale((1, 32, 256), ("tf32",), 2, 2, IMAGES, 16)
ON_CPU = Scale((1, 2, 4, 8), ("float32",), 4, 2, 10_240, 8)
SMALL_ON_CPU = Scale((1, 4), ("float32",), 2, 1, 5_120, 2)


def made_up(images: int) -> Dataset:
    """Images of MNIST's shape: ten prototypes under heavy noise."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randint(0, 256, (10, 1, 28, 28), generator=generator)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 10
        noise = torch.randint(-600, 600, (count, 1, 28, 28), generator=generator)
        return Split((prototypes[labels] + noise).clamp(0, 255).byte(), labels)

    names = tuple(str(digit) for digit in range(10))
    return describe("made up, of MNIST's shape", names, split(images), split(VALIDATION), split(10))


def data_for(scale: Scale, data_dir: Path | None) -> Dataset:
    """Load MNIST, its training images cut to the scale; make images up where there is none."""
    try:
        found = load("mnist", root=data_dir, validation=VALIDATION)
    except DataError as error:
        print(f"no MNIST, images are made up: {error}", file=sys.stderr)
        return made_up(scale.images)
    if scale.images >= len(found.train):
        return found
    part = Split(found.train.images[: scale.images], found.train.labels[: scale.images])
    return describe("mnist", found.classes, part, found.validation, found.test)


def wait(device: torch.device) -> None:
    """Let the device come to its end, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_pack(data: Dataset, size: int, scale: Scale, precision: str, device: torch.device) -> dict[str, Any]:
    """Train one pack and tell what it took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait(device)
    started = time.perf_counter()
    pack = Pack.from_seeds([dense_architecture(WIDTHS)] * size, range(size), device)
    drawn = time.perf_counter() - started
    members = [Hyperparameters(lr=LR, weight_decay=DECAY, seed=seed) for seed in range(size)]
    result = train(pack, data, members, epochs=scale.epochs, batch_size=BATCH, precision=precision)
    wait(device)
    seconds = time.perf_counter() - started
    steps = scale.epochs * (len(data.train) // BATCH)
    accuracies = [curves["validation_accuracy"][-1] for curves in result.curves if curves["lr"]]
    return {
        "pack": size,
        "precision": precision,
        "seconds": round(seconds, 3),
        "seconds_drawing_weights": round(drawn, 3),
        "members_per_minute": round(size * 60 / seconds, 2),
        "ms_per_step": round(1000 * (seconds - drawn) / steps, 4),
        "matmul_tflops": round(size * steps * step_flops() / (seconds - drawn) / 1e12, 4),
        "failed": len(result.failures),
        "accuracies": [round(value, 5) for value in accuracies],
        "peak_memory_mib": round(torch.cuda.max_memory_allocated(device) / 2**20)
        if device.type == "cuda"
        else None,
    }


def step_flops() -> int:
    """Count the operations of one member's matrix products in a step: no gradient of the images is made."""
    products = [a * b for a, b in itertools.pairwise(WIDTHS)]
    return 2 * BATCH * (2 * sum(products) + sum(products[1:]))


def run_single(data: Dataset, seed: int, epochs: int, device: torch.device) -> float:
    """Train one network as one does without packs; returns its validation accuracy."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(device)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=LR,
        fused=True,  # the fastest that torch has on either device: what packs are compared with
    )
    steps = len(data.train) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: one_cycle(done / (epochs * steps)))
    images, labels = data.train.images.flatten(1), data.train.labels
    mean, std = 255 * data.mean[0], 255 * data.std[0]

    def inputs(pixels: Tensor) -> Tensor:
        return (pixels.float() - mean) / std

    for _ in range(epochs):
        order = torch.randperm(len(labels), device=device)
        for chosen in order.split(BATCH)[:steps]:
            loss = F.cross_entropy(model(inputs(images[chosen])), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        logits = model(inputs(data.validation.images.flatten(1)))
    return float((logits.argmax(1) == data.validation.labels).float().mean())


def run_singles(data: Dataset, scale: Scale, precision: str, device: torch.device) -> dict[str, Any]:
    """Train members one after the other; one epoch before them, as before the packs, is not counted."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    run_single(data, 10_000, 1, device)
    wait(device)
    started = time.perf_counter()
    accuracies = [run_single(data, 10_001 + seed, scale.epochs, device) for seed in range(scale.singles)]
    wait(device)
    seconds = time.perf_counter() - started
    torch.set_float32_matmul_precision(before)
    return {
        "members": scale.singles,
        "precision": precision,
        "seconds": round(seconds, 3),
        "members_per_minute": round(scale.singles * 60 / seconds, 2),
        "accuracies": [round(value, 5) for value in accuracies],
    }


def matmul_rate(precision: str, device: torch.device) -> float:
    """Measure the device's rate of large square products, in TFLOP/s: the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    best = float("inf")
    for _ in range(6):
        wait(device)
        started = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - started)
    torch.set_float32_matmul_precision(before)
    return 2 * side**3 / best / 1e12


def analyse(data: Dataset, scale: Scale, device: torch.device) -> dict[str, Any]:
    """Time spectra and fronts of members that were trained for an epoch, alone and together."""
    seeds = range(scale.analysed)
    pack = Pack.from_seeds([dense_architecture(WIDTHS)] * len(seeds), seeds, device)
    members = [Hyperparameters(lr=LR, weight_decay=DECAY, seed=seed) for seed in seeds]
    train(pack, data, members, epochs=1, batch_size=BATCH)
    inputs = normalized(data.train.images[:10_000], data.mean, data.std)
    validation = (normalized(data.validation.images, data.mean, data.std), data.validation.labels)
    models = [pack.model(member, merge=True).to(device) for member in seeds]
    return both_ways(models, inputs, validation, lambda: wait(device))


def compared(packed: Sequence[float], single: Sequence[float]) -> dict[str, Any]:
    """Compare mean accuracies: equal within noise where they are less than three standard errors apart."""
    difference = statistics.fmean(packed) - statistics.fmean(single)
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (packed, single)]
    error = sum(s**2 / len(values) for s, values in zip(spread, (packed, single), strict=True)) ** 0.5
    return {
        "packed": round(statistics.fmean(packed), 5),
        "single": round(statistics.fmean(single), 5),
        "n": [len(packed), len(single)],
        "difference": round(difference, 5),
        "standard_error": round(error, 5),
        "equal_within_noise": abs(difference) <= 3 * error if min(len(packed), len(single)) > 1 else None,
    }


def measure(scale: Scale, data_dir: Path | None, device: torch.device) -> dict[str, Any]:
    """Run everything."""
    data = data_for(scale, data_dir).to(device)
    rates = {precision: matmul_rate(precision, device) for precision in scale.precisions}
    singles = run_singles(data, scale, scale.precisions[0], device)
    packs = []
    for precision in scale.precisions:
        run_pack(data, 1, Scale((), (), 0, 1, 0, 0), precision, device)  # compiles and loads what it needs
        for size in scale.packs:
            row = run_pack(data, size, scale, precision, device)
            row["share_of_matmul_rate"] = round(row["matmul_tflops"] / rates[precision], 4)
            row["times_singles"] = round(row["members_per_minute"] / singles["members_per_minute"], 2)
            packs.append(row)
            print(
                f"pack {size:>3} {precision}: {row['members_per_minute']:,.1f} members a minute, "
                f"{row['times_singles']:.1f}x singles, {row['share_of_matmul_rate']:.0%} of the matrix rate",
                file=sys.stderr,
            )
    best = max(packs, key=lambda row: row["members_per_minute"])
    job = scale.epochs * (len(data.train) // BATCH)
    whole = EPOCHS * (IMAGES // BATCH)
    return {
        "network": list(WIDTHS),
        "batch_size": BATCH,
        "epochs": scale.epochs,
        "images": len(data.train),
        "data": data.name,
        "reduced": None
        if job >= whole
        else f"{job} of {whole} steps: members a minute of the whole job are {job / whole:.4f} times as many",
        "matmul_tflops": {precision: round(rate, 3) for precision, rate in rates.items()},
        "singles": singles,
        "packs": packs,
        "best": {key: best[key] for key in ("pack", "precision", "members_per_minute", "times_singles")},
        "accuracy": compared(best["accuracies"], singles["accuracies"]),
        "analysis": analyse(data, scale, device),
    }


def result_path(results: Path, cuda: bool, small: bool) -> Path:
    """Name the JSON file: runs that are small or on a CPU never take the place of the figures that count."""
    return results / f"gpu{'' if cuda else '-cpu'}{'-small' if small else ''}.json"


def main() -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--small", action="store_true", help="about a minute on two cores")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available() and not arguments.cpu
    if cuda:
        scale = SMALL_ON_CUDA if arguments.small else FULL
    else:
        scale = SMALL_ON_CPU if arguments.small else ON_CPU
    started = time.perf_counter()
    found = measure(scale, arguments.data_dir, torch.device("cuda" if cuda else "cpu"))
    loaded = sorted({name.split(".")[0] for name in sys.modules} & set(FORBIDDEN))
    if loaded:
        sys.exit(f"this benchmark is to run with torch alone, but {', '.join(loaded)} was imported")
    report = {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "small": arguments.small,
        "threads": torch.get_num_threads(),
        "environment": environment(),
        "wall_seconds": round(time.perf_counter() - started, 1),
        **found,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = result_path(arguments.results, cuda, arguments.small)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    keys = ("benchmark", "device", "small", "reduced", "best", "accuracy", "analysis", "wall_seconds")
    print(json.dumps({key: report[key] for key in keys}))


if __name__ == "__main__":
    main()
