"""The compression benchmark's table, from its JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

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
EXPLANATION = (
    "Test accuracy in % (mean ± standard deviation over seeds) of what validation chooses at that many times "
    "fewer parameters; then the largest compression whose test accuracy is within that many points of the "
    "best dense member; macro-F1 is in the JSON file. CPU seconds a seed, one thread, training included; the "
    "families of one front are measured together. A dash: no model that small, none within, or no time of "
    "its own. Bold: the row is ahead of this project's best row in that column."
)
OWN = 6  # rows of this project begin here


def markdown(report: dict[str, Any]) -> str:
    """Write the table: mean and standard deviation over the seeds, baselines that win in bold."""
    seeds = report["seeds"]
    first = seeds[0]["rows"]["dense reference"]
    ratios, drops = list(first["accuracy"]), list(first["compression_within"])
    names = [name for name in ORDER if name in seeds[0]["rows"]]
    environment = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    dense = {kind: _spread([100 * s["dense"][kind]["test"] for s in seeds], 2) for kind in seeds[0]["dense"]}
    lines = [
        f"# Compression on {report['dataset']}",
        "",
        f"n = {report['n']} seeds; {environment['cores']} cores of {environment['cpu']}, "
        f"GPU {environment['gpu']}; Python {environment['python']}, {versions}.",
        "",
        f"Reference: {seeds[0]['reference_params']:,} parameters. Dense test accuracy: "
        + "; ".join(f"{kind} {value} %" for kind, value in dense.items())
        + ".",
        "",
        EXPLANATION,
        "",
        "| row | "
        + " | ".join(f"{r}x" for r in ratios)
        + " | "
        + " | ".join(f"within {100 * float(d):.1f}" for d in drops)
        + " | hypervolume | CPU seconds |",
        "| --- |" + " --- |" * (len(ratios) + len(drops) + 2),
    ]
    columns = [("accuracy", key, 100.0, 2) for key in ratios]
    columns += [("compression_within", key, 1.0, 1) for key in drops]
    cells = {name: [_values(seeds, name, column) for column in columns] for name in names}
    for name in names:
        row = []
        for index, (_, _, _, digits) in enumerate(columns):
            text = _spread(cells[name][index], digits)
            own = [_mean(cells[n][index]) for n in names if ORDER.index(n) >= OWN]
            ahead = ORDER.index(name) < OWN and _mean(cells[name][index]) > max(own)
            row.append(f"**{text}**" if ahead else text)
        row.append(_spread([s["rows"][name]["hypervolume"] for s in seeds], 4))
        row.append(_spread([s["rows"][name]["seconds"] for s in seeds if s["rows"][name]["seconds"]], 0))
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    search = {key: [s["search"][key] for s in seeds] for key in seeds[0]["search"]}
    shares = search["share_of_training"]
    lines += [
        "",
        f"{_spread(search['points'], 0)} distinct operating points of the plain reference member on "
        f"validation, with its spectra (loss basis), cost {_spread([100 * s for s in shares], 1)} % of its "
        "training.",
        "",
    ]
    return "\n".join(lines)


def _values(seeds: Sequence[dict[str, Any]], name: str, column: tuple[str, str, float, int]) -> list[float]:
    kind, key, scale, _ = column
    values = [s["rows"][name][kind][key] for s in seeds]
    return [] if any(value is None for value in values) else [scale * value for value in values]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("-inf")


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {spread:.{digits}f}"
