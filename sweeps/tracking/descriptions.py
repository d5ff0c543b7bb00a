"""What people read first in the MLflow UI: Markdown notes on experiment, sweep and registered model."""

import json
from typing import TYPE_CHECKING

from sweeps.tracking.connection import URI_VARIABLE, redact, tracking_uri
from sweeps.tracking.versions import registered_name

if TYPE_CHECKING:
    from sweeps.ledger.joined_front import Network
    from sweeps.ledger.records import Front
    from sweeps.tracking.versions import RegisteredVersion


def load_lines(dataset: str) -> str:
    """Return the Python lines that load a data set's best model, with this package and without it.

    Both say where the models are: otherwise another store would be searched, or MLflow would leave an empty
    database in the current folder.

    Args:
        dataset: name of the data set.
    """
    uri = json.dumps(redact(tracking_uri()))
    return (
        "import os\n"
        f'os.environ["{URI_VARIABLE}"] = {uri}\n'
        "\n"
        "from sweeps import load_best\n"
        f'model = load_best("{dataset}")    # or max_drop=0.005, or max_params=20_000\n'
        "\n"
        "# without this package, anywhere MLflow and torch are installed:\n"
        f"{mlflow_lines(f'models:/{registered_name(dataset)}@best')}"
    )


def mlflow_lines(model: str) -> str:
    """Return the Python lines that load a registered model with MLflow alone.

    Args:
        model: address of the model, models:/NAME/VERSION or models:/NAME@ALIAS.
    """
    return (
        "import mlflow\n"
        f"mlflow.set_tracking_uri({json.dumps(redact(tracking_uri()))})\n"
        f'model = mlflow.pytorch.load_model("{model}")'
    )


def experiment_note(dataset: str) -> str:
    """Describe the experiment of a data set."""
    # the UI shows the first line until it is unfolded
    return (
        f'Compression sweeps on {dataset}; `from sweeps import load_best; load_best("{dataset}")` loads '
        "the best model. Each top-level run is one sweep; the runs nested in it are its members, one trained "
        "network each. A sweep's *Artifacts* hold its report, `front.html`. For the front as a chart search "
        "its *Model metrics* for `validation_accuracy`: there a step is a number of parameters.\n\n"
        f"{_loading(dataset)}"
    )


def sweep_note(dataset: str, front: "Front", members: int) -> str:
    """Describe a finished sweep.

    Args:
        dataset: name of the data set.
        front: final front.
        members: number of members that have a run.
    """
    from sweeps.ledger.joined_front import networks  # imported here since loading a model needs no Optuna

    rivals = ", ".join(f"{name} {baseline.hypervolume:.4f}" for name, baseline in front.baselines.items())
    table = "\n".join(_row(one) for one in networks(front, ends=True))
    return (
        f"{members} members trained on {dataset}, {len(front.points)} models on the front.\n\n"
        "| network | parameters | times fewer than the reference | than the best dense member "
        "| validation accuracy | test accuracy |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        f"{table}\n\n"
        f"Hypervolume {front.hypervolume:.4f}{f' (baselines: {rivals})' if rivals else ''}. "
        "The interactive report is `front.html` under *Artifacts*; the front as a chart is "
        "`validation_accuracy` under *Model metrics*, where a step is a number of parameters.\n\n"
        f"{_loading(dataset)}"
    )


def model_note(dataset: str, best: "RegisteredVersion | None") -> str:
    """Describe the registered model of a data set.

    Args:
        dataset: name of the data set.
        best: version that has the alias `best`, of whichever sweep; None where none has it.
    """
    told = "No version is surely within the allowed drop, so none is `best`. "
    if best is not None:
        test = "" if best.test_accuracy is None else f", test accuracy {best.test_accuracy:.4f}"
        told = (
            f"`best` is version {best.version}, of sweep {best.sweep}: {best.params:,} parameters, "
            f"validation accuracy {best.validation_accuracy:.4f}{test}; the best dense network of that sweep "
            f"reaches {best.dense_accuracy:.4f} on validation. "
        )
    return (
        f"Networks for **{dataset}**, compressed by adaptive-rank SVD; each version is a point of a sweep's "
        f"front. {told}Aliases: `best` is the smallest within the sweep's allowed drop of the best dense "
        "validation accuracy, `smallest` and `most-accurate` are the ends of the front.\n\n"
        "Input: float32 images (batch, channels, height, width) in [0, 1]. Output: logits (batch, classes). "
        "Normalisation is inside.\n\n"
        f"{_loading(dataset)}"
    )


def _loading(dataset: str) -> str:
    return f"```python\n{load_lines(dataset)}\n```"


def _row(one: "Network") -> str:
    accuracies = ("" if share is None else f"{share:.4f}" for share in (one.validation, one.test))
    dense = "" if one.dense_ratio is None else f"{one.dense_ratio:.1f}"
    return f"| {one.name} | {one.params:,} | {one.ratio:.1f} | {dense} | {' | '.join(accuracies)} |"
