"""The compression benchmark's table, from its JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.compression_summary import DROPS, RATIOS, best_dense, figures

ORDER = (
    "dense reference",
    "small dense networks",
    "fixed rank",
    "weight energy (v1)",
    "spectral entropy (v2)",
    "activation energy",
    "energy, loss basis",
    "+ budget",
    "+ sensitivity",
    "+ local search",
    "front, no recovery",
    "front, recovery",
    "energy, loss basis, LoRITa",
    "+ budget, LoRITa",
    "+ sensitivity, LoRITa",
    "+ local search, LoRITa",
    "front, no recovery, LoRITa",
    "front, recovery, LoRITa",
    "sweep, no recovery",
    "sweep, recovery",
)
BASELINES, OWN = ORDER[:6], "sweep, recovery"
EXPLANATION = (
    "Mean ± standard deviation over the seeds; every choice is validation's, and every row may fall back "
    "on the dense reference. First the test accuracy in % of the best model of at most so many times "
    "fewer parameters. Then the compression of the smallest model that on validation loses at most so "
    "many points against the best dense member, and in brackets the points that it loses on test. The "
    "hypervolume is the mean test accuracy of the choices over ratios from 1 to 100 on a log scale. CPU "
    "seconds a seed, one thread, training included; the families of one front are measured together. A "
    "dash: no model that small, none within, or no time of its own; a count where that is so for some "
    "seeds. Bold: the baseline is ahead of the row 'sweep, recovery'."
)

Cell = tuple[list[float], str]  # what is compared, and its text


def markdown(report: dict[str, Any]) -> str:
    """Write the table."""
    seeds = report["seeds"]
    names = [name for name in ORDER if name in seeds[0]["rows"]]
    environment = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    dense = {kind: [100 * s["dense"][kind]["test"] for s in seeds] for kind in seeds[0]["dense"]}
    dense["the one that validation prefers"] = [100 * best_dense(seed)["test"] for seed in seeds]
    head = [*(f"{r}x" for r in RATIOS), *(f"within {100 * d:.1f}" for d in DROPS)]
    lines = [
        f"# Compression on {report['dataset']}",
        "",
        f"n = {report['n']} seeds; {environment['cores']} cores of {environment['cpu']}, "
        f"GPU {environment['gpu']}; Python {environment['python']}, {versions}.",
        "",
        *([report["note"], ""] if "note" in report else []),
        f"Reference: {seeds[0]['reference_params']:,} parameters. Dense test accuracy: "
        + "; ".join(f"{kind} {spread(values, 2)} %" for kind, values in dense.items())
        + ".",
        "",
        EXPLANATION,
        "",
        "| row | " + " | ".join([*head, "hypervolume", "CPU seconds"]) + " |",
        "| --- |" + " --- |" * (len(head) + 2),
    ]
    rows = {name: [figures(seed, name) for seed in seeds] for name in names}
    best = _cells(rows[OWN])
    for name in names:
        texts = []
        for (values, text), (own, _) in zip(_cells(rows[name]), best, strict=True):
            ahead = name in BASELINES and values and statistics.fmean(values) > statistics.fmean(own or [0.0])
            texts.append(f"**{text}**" if ahead else text)
        spent = [s["rows"][name]["seconds"] for s in seeds if s["rows"][name]["seconds"]]
        lines.append(f"| {name} | " + " | ".join([*texts, spread(spent, 0)]) + " |")
    search = {key: [s["search"][key] for s in seeds] for key in seeds[0]["search"]}
    shares = [100 * share for share in search["share_of_training"]]
    lines += [
        "",
        f"{spread(search['points'], 0)} distinct operating points of the plain reference member on "
        f"validation, with its spectra (loss basis), cost {spread(shares, 1)} % of its training.",
        "",
    ]
    return "\n".join(lines)


def _cells(found: Sequence[dict[str, Any]]) -> list[Cell]:
    """Return a row's cells. Compressions within a drop are not compared: what they lose on test differs."""
    cells = []
    for ratio in RATIOS:
        values = [100 * one["accuracy"][ratio] for one in found if one["accuracy"][ratio] is not None]
        cells.append((values, _counted(values, len(found), 2)))
    for drop in DROPS:
        pairs = [one["within"][drop] for one in found if one["within"][drop] is not None]
        text = _counted([ratio for ratio, _ in pairs], len(found), 1)
        lost = statistics.fmean(100 * loss for _, loss in pairs) if pairs else 0.0
        cells.append(([], f"{text} ({lost:.2f})" if pairs else text))
    volumes = [one["hypervolume"] for one in found]
    return [*cells, (volumes, spread(volumes, 4))]


def _counted(values: Sequence[float], seeds: int, digits: int) -> str:
    text = spread(values, digits)
    return text if len(values) in (0, seeds) else f"{text}, {len(values)} of {seeds}"


def spread(values: Sequence[float], digits: int) -> str:
    """Write mean ± standard deviation, a dash where there is nothing."""
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"
