import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

import arsvd
from arsvd.evaluation.latency import Latency
from sweeps.config import MemberConfig
from sweeps.ledger.records import Baseline, Front, FrontPoint, MemberRecord, TestMetrics
from sweeps.tracking import ModelData, connect

DATA_HASH = "0123456789abcdef" * 4
CLASSES = tuple("0123456789")
SHAPE = (1, 8, 8)
CHANGED_ENVIRONMENT = ("ARSVD_HOME", "MLFLOW_TRACKING_URI")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An SQLite store with MLflow's tables in it: making them takes a second, copying them nothing."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def client(tmp_path: Path, _empty_store: bytes) -> MlflowClient:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(_empty_store)
    return connect()


@pytest.fixture(scope="session")
def make_config() -> Callable[..., MemberConfig]:
    def make(**changes: object) -> MemberConfig:
        values: dict[str, object] = {
            "hidden": [16, 8],
            "factors": 1,
            "dropout": 0.0,
            "epochs": 3,
            "batch_size": 64,
            "lr": 1e-3,
            "weight_decay": 0.01,
            "label_smoothing": 0.0,
            "schedule": "onecycle",
            "flip": None,
            "basis": "activation",
            "rule": "energy",
            "energy": 0.98,
            "calibration": 1000,
            "finetune_epochs": 0,
            "finetune_points": 6,
            "finetune_lr": 1e-3,
            "distillation_weight": 0.9,
            "distillation_temperature": 2.0,
            "seed": 0,
        }
        return MemberConfig.from_dict({**values, **changes})

    return make


@pytest.fixture(scope="session")
def make_point() -> Callable[..., arsvd.OperatingPoint]:
    def make(params: int, accuracy: float, **changes: object) -> arsvd.OperatingPoint:
        values: dict[str, object] = {
            "ranks": (params % 97, None, None),
            "params": params,
            "macs": params - 10,
            "accuracy": accuracy,
            "macro_f1": accuracy - 0.01,
            "loss": 1.0 - accuracy,
            "family": "energy",
            "basis": "activation",
            "threshold": 0.98,
        }
        return arsvd.OperatingPoint(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_record(
    make_config: Callable[..., MemberConfig], make_point: Callable[..., arsvd.OperatingPoint]
) -> Callable[..., MemberRecord]:
    def make(number: int = 7, **changes: object) -> MemberRecord:
        values: dict[str, object] = {
            "key": f"key{number}",
            "number": number,
            "status": "finished",
            "cause": None,
            "config": make_config(seed=number),
            "curves": {"train_loss": [1.0, 0.5, 0.25], "validation_accuracy": [0.5, 0.75, 0.9]},
            "dense": make_point(2000, 0.95, family="dense", basis=None, threshold=None),
            "asked": make_point(1000, 0.9),
            # the second one is beaten and so no part of the member's front
            "points": (make_point(500, 0.8), make_point(600, 0.7), make_point(1000, 0.9)),
            "seconds": {"train": 3.0, "evaluate": 1.0},
        }
        return MemberRecord(**{**values, **changes})  # type: ignore[arg-type]

    return make


def whole_model(rank: int) -> tuple[nn.Module, arsvd.Plan]:
    """A compressed network with its normalisation, and the plan that it was compressed by."""
    network = arsvd.MLP([64, 16, 8, 10])
    generator = torch.Generator().manual_seed(rank)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    spectra = arsvd.spectra(network)
    plan = arsvd.plan(spectra, arsvd.Ranks((rank, rank, None)))
    return arsvd.whole(arsvd.compress(network, spectra, plan), [0.2], [0.4]), plan


@pytest.fixture(scope="session")
def models() -> dict[str, nn.Module]:
    """Member key to the model of its one point."""
    return {f"key{rank}": whole_model(rank)[0] for rank in (1, 2, 4)}


@pytest.fixture(scope="session")
def front(make_point: Callable[..., arsvd.OperatingPoint]) -> Front:
    points = []
    for rank, accuracy in ((1, 0.7), (2, 0.93), (4, 0.95)):
        plan = whole_model(rank)[1]
        point = make_point(plan.params, accuracy, ranks=plan.ranks, macs=plan.macs)
        test = TestMetrics(accuracy - 0.02, accuracy - 0.03, 0.3)
        latency = tuple(
            Latency(batch, 1, "cpu", 200, 10.0 * rank, 15.0 * rank, 80.0, 90.0) for batch in (1, 256)
        )
        points.append(FrontPoint(f"key{rank}", rank, point, test, latency=latency))
    return Front(
        points=tuple(points),
        hypervolume=0.75,
        baselines={"fixed": Baseline(tuple(points[:1]), 0.5), "weight energy": Baseline((), 0.25)},
        reference_params=1_274,
        reference_macs=1_232,
        dense_accuracy=0.96,
        best=points[2],
        validation_images=100,
    )


@pytest.fixture(scope="session")
def data() -> ModelData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, *SHAPE), generator=generator, dtype=torch.uint8)
    return ModelData("digits", DATA_HASH, CLASSES, images)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real tracking server on loopback, with its files in a folder of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    for name in CHANGED_ENVIRONMENT:
        environment.pop(name, None)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_until_healthy(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the tracking server did not start: {log.read_text()[-2000:]}")
