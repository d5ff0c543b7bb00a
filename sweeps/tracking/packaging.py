"""An exported model in MLflow's form: the files beside it that say what it is and how to load it."""

import math
import os
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.pyfunc
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from sweeps.tracking.programs import Order
from sweeps.tracking.versions import PROGRAM_PATH, WEIGHTS_PATH

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

_PACKAGES = ("mlflow", "numpy", "torch")
_DATA = str(Path(PROGRAM_PATH).parent)


def package(folder: Path, order: Order, logged: "LoggedModel") -> Path:
    """Turn the output of `programs.write` in a folder into a model that `mlflow.pytorch.load_model` takes.

    `mlflow.pytorch.save_model` would do all of it, but it exports the model itself, so that each process that
    exports would have to import MLflow, and its output would have to be rewritten without local paths.

    Args:
        folder: folder that holds the exported model.
        order: order from which it was made.
        logged: logged model that the files will belong to.

    Returns:
        The folder to upload.
    """
    name, data_hash, classes = order.dataset
    single = np.dtype(np.float32)
    # a ramp from black to white: images of the data set are not ours to publish
    rows, *image = order.example.shape
    ramp = np.linspace(0, 1, math.prod(image), dtype=single)
    example = np.broadcast_to(ramp.reshape(image), (rows, *image))
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
    )
    model.add_flavor(
        "pytorch",
        model_data=_DATA,
        pytorch_version=str(torch.__version__),
        code=None,
        extra_files=[{"path": WEIGHTS_PATH}],
    )
    whole = folder / "model"
    mlflow.pyfunc.save_model(
        str(whole),
        loader_module="mlflow.pytorch",
        mlflow_model=model,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(single, (-1, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(single, (-1, len(classes)))]),
        ),
        input_example=example,
        # stated, or MLflow loads the model in a subprocess to find out what it imports
        pip_requirements=[f"{package}=={package_version(package).split('+')[0]}" for package in _PACKAGES],
        metadata={"dataset": name, "data_hash": data_hash, "classes": list(classes)},
        model_config={"device": None},
    )
    for file in (PROGRAM_PATH, WEIGHTS_PATH):
        (whole / file).parent.mkdir()
        os.replace(folder / file, whole / file)
    # MLflow copies the data that it is given, into a folder within this one
    model.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.DATA] = _DATA
    model.model_size_bytes = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    model.save(str(whole / "MLmodel"))
    return whole
