"""What a person reads first in the MLflow UI: Markdown notes on experiment, sweep and registered model."""

from typing import TYPE_CHECKING

from sweeps.tracking.versions import registered_name

if TYPE_CHECKING:
    from sweeps.records import Front, FrontPoint


def load_lines(dataset: str) -> str:
    """Return the Python lines that load a data set's best model, with this package and without it.

    Args:
        dataset: the data set's name.
    """
    return (
        "from sweeps import load_best\n"
        f'model = load_best("{dataset}")    # or max_drop=0.005, or max_params=20_000\n'
        "\n"
        "# without this package, anywhere MLflow and torch are installed:\n"
        "import mlflow\n"
        f'model = mlflow.pytorch.load_model("models:/{registered_name(dataset)}@best")'
    )


def experiment_note(dataset: str) -> str:
    """Describe the experiment of a data set."""
    # the UI shows the first line until it is unfolded
    return (
        f'Compression sweeps on **{dataset}**; `from sweeps import load_best; load_best("{dataset}")` loads '
        "the best model. Each top-level run is one sweep; the runs nested in it are its members, one trained "
        "network each. A sweep's *Artifacts* hold its report, `front.html`. For the front as a chart search "
        "its *Model metrics* for `validation_accuracy`: there a step is a number of parameters.\n\n"
        f"{_loading(dataset)}"
    )


def sweep_note(dataset: str, front: "Front", members: int) -> str:
    """Describe a finished sweep.

    Args:
        dataset: the data set's name.
        front: the final front.
        members: how many members have a run.
    """
    rivals = ", ".join(f"{name} {baseline.hypervolume:.4f}" for name, baseline in front.baselines.items())
    rows = [("best", front.best)]
    if front.points:
        rows += [("smallest", front.points[0]), ("most accurate", front.points[-1])]
    table = "\n".join(_row(name, point, front.reference_params) for name, point in rows if point is not None)
    return (
        f"{members} members trained on **{dataset}**, {len(front.points)} models on the front. "
        f"Best dense validation accuracy {front.dense_accuracy:.4f}; the reference model has "
        f"{front.reference_params:,} parameters.\n\n"
        "| model | parameters | ratio | validation accuracy | test accuracy |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        f"{table}\n\n"
        f"Hypervolume {front.hypervolume:.4f}{f' (baselines: {rivals})' if rivals else ''}. "
        "The interactive report is `front.html` under *Artifacts*; the front as a chart is "
        "`validation_accuracy` under *Model metrics*, where a step is a number of parameters.\n\n"
        f"{_loading(dataset)}"
    )


def model_note(dataset: str, front: "Front") -> str:
    """Describe the registered model of a data set."""
    best = ""
    if front.best is not None:
        point = front.best.point
        best = (
            f"The newest sweep's best one has {point.params:,} parameters, "
            f"{front.reference_params / point.params:.1f} times fewer than its reference, at a validation "
            f"accuracy of {point.accuracy:.4f}. "
        )
    return (
        f"Networks for **{dataset}**, compressed by adaptive-rank SVD; each version is a point of a sweep's "
        f"front. {best}Aliases: `best` is the smallest within the sweep's allowed drop of the best dense "
        "validation accuracy, `smallest` and `most-accurate` are the ends of the front.\n\n"
        "Input: float32 images (batch, channels, height, width) in [0, 1]. Output: logits (batch, classes). "
        "Normalisation is inside.\n\n"
        f"{_loading(dataset)}"
    )


def _loading(dataset: str) -> str:
    return f"```python\n{load_lines(dataset)}\n```"


def _row(name: str, point: "FrontPoint", reference_params: int) -> str:
    test = "" if point.test is None else f"{point.test.accuracy:.4f}"
    ratio = reference_params / point.point.params
    return f"| {name} | {point.point.params:,} | {ratio:.1f} | {point.point.accuracy:.4f} | {test} |"
