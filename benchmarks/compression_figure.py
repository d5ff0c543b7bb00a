"""Draw the compression benchmark: `python -m benchmarks.compression_figure docs/compression.png`."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.compression_summary import best_dense, choice, models

ROWS = {
    "sweep, recovery": ("this project: sweep", "#0b6e4f", "-"),
    "front, recovery, LoRITa": ("this project: one LoRITa member", "#5fb49c", "-"),
    "small dense networks": ("small dense networks, from scratch", "#d1495b", "--"),
    "activation energy": ("activation energy", "#3066be", ":"),
    "weight energy (v1)": ("weight energy (ARSVD v1)", "#8d6a9f", ":"),
    "spectral entropy (v2)": ("spectral entropy (ARSVD v2)", "#b08968", ":"),
    "fixed rank": ("fixed rank", "#6c757d", ":"),
}
DATASETS = ("digits", "mnist", "cifar10")
RATIOS = np.geomspace(1.5, 100, 120)


def step(seed: dict[str, Any], row: str) -> list[float]:
    """Return, at each ratio, the test accuracy of what validation chooses at no more parameters; else NaN."""
    found = models(seed, row)
    chosen = [choice(found, seed["reference_params"] / ratio) for ratio in RATIOS]
    return [float("nan") if model is None else model[2] for model in chosen]


def panel(axes: Axes, report: dict[str, Any]) -> None:
    """Draw one data set: a row's mean over the seeds, and its range as a band."""
    seeds = report["seeds"]
    reference = seeds[0]["reference_params"]
    for row, (label, colour, line) in ROWS.items():
        curves = 100 * np.array([step(seed, row) for seed in seeds])
        axes.plot(RATIOS, curves.mean(axis=0), line, color=colour, label=label, linewidth=1.8)
        axes.fill_between(
            RATIOS, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0
        )
    dense = [best_dense(seed)["test"] for seed in seeds]
    axes.axhline(100 * float(np.mean(dense)), color="black", linewidth=0.8, label="best dense reference")
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 50, 100], ["2x", "5x", "10x", "20x", "50x", "100x"])
    axes.minorticks_off()
    floor = {"mnist": 90, "digits": 80, "cifar10": 35}[report["dataset"]]
    axes.set_ylim(floor, 100 * max(dense) + (100 - floor) * 0.02)
    axes.set_title(f"{report['dataset']}: {reference:,} parameters, n = {report['n']}", fontsize=10)
    axes.set_xlabel("compression")
    axes.grid(alpha=0.25)


def main() -> None:
    """Draw all data sets that have results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    files = [arguments.results / f"compression-{name}.json" for name in DATASETS]
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    figure, axes = plt.subplots(1, len(reports), figsize=(5 * len(reports), 4.6), squeeze=False)
    for one, report in zip(axes[0], reports, strict=True):
        panel(one, report)
    axes[0][0].set_ylabel("test accuracy in %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
