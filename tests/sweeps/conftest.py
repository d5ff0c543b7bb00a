"""What the tests of the engine share: real digits, records that were made up, and a real S3 server."""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from arsvd import OperatingPoint
from arsvd.data import Dataset, load
from sweeps.config import MemberConfig, SweepConfig, load_config
from sweeps.ledger.records import FINISHED, MemberRecord

ENGINE_DATA_HASH = "5eed" * 16


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", validation=0.2)


@pytest.fixture(scope="session")
def engine_hash() -> str:
    return ENGINE_DATA_HASH


@pytest.fixture(scope="session")
def new_config() -> Callable[..., SweepConfig]:
    """The bundled digits sweep with changes: `new_config("search.trials=3")`."""

    def make(*overrides: str) -> SweepConfig:
        return load_config("digits", overrides)

    return make


@pytest.fixture(scope="session")
def new_member() -> Callable[..., MemberConfig]:
    def make(**changes: object) -> MemberConfig:
        values: dict[str, object] = {
            "hidden": [16, 8],
            "factors": 1,
            "dropout": 0.0,
            "epochs": 2,
            "batch_size": 64,
            "lr": 0.01,
            "weight_decay": 0.01,
            "label_smoothing": 0.0,
            "schedule": "onecycle",
            "flip": None,
            "basis": "activation",
            "rule": "energy",
            "energy": 0.95,
            "calibration": 1000,
            "finetune_epochs": 0,
            "finetune_points": 2,
            "finetune_lr": 1e-3,
            "distillation_weight": 0.9,
            "distillation_temperature": 2.0,
            "seed": 0,
        }
        return MemberConfig.from_dict({**values, **changes})

    return make


@pytest.fixture(scope="session")
def new_point() -> Callable[..., OperatingPoint]:
    def make(params: int, accuracy: float, **changes: object) -> OperatingPoint:
        values: dict[str, object] = {
            "ranks": (params, None),
            "params": params,
            "macs": max(0, params - 10),
            "accuracy": accuracy,
            "macro_f1": accuracy,
            "loss": 1.0 - accuracy,
            "family": "energy",
            "basis": "activation",
            "threshold": 0.9,
        }
        return OperatingPoint(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def new_record(
    new_member: Callable[..., MemberConfig], new_point: Callable[..., OperatingPoint]
) -> Callable[..., MemberRecord]:
    """A finished member and its points: `new_record(3, [(100, 0.9), (50, 0.8)], dense=0.95)`."""

    def make(
        number: int = 0,
        sizes: Sequence[tuple[int, float]] = (),
        dense: float | None = 0.95,
        **changes: object,
    ) -> MemberRecord:
        config = changes.pop("config", None) or new_member(seed=number)
        assert isinstance(config, MemberConfig)
        as_trained = {"ranks": (None, None), "family": "dense", "basis": None, "threshold": None}
        values: dict[str, object] = {
            "key": config.key(ENGINE_DATA_HASH),
            "number": number,
            "status": FINISHED,
            "cause": None,
            "config": config,
            "dense": None if dense is None else new_point(1000, dense, **as_trained),
            "asked": new_point(500, 0.9, ranks=(77, None)),
            "points": tuple(new_point(params, accuracy) for params, accuracy in sizes),
        }
        return MemberRecord(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on the loopback address, in a process of its own; returns its address."""
    pytest.importorskip("moto.server", reason="moto[server] stands in for S3")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        deadline = time.monotonic() + 120
        while "Running on http://" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"the S3 server did not start: {log.read_text()}")
            time.sleep(0.05)
        yield log.read_text().split("Running on ")[1].split()[0]
        process.kill()


@pytest.fixture
def new_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes an empty bucket and returns a location in it; access is in AWS's own variables."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    import boto3

    def make() -> str:
        bucket = f"arsvd-{secrets.token_hex(6)}"
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
        return f"s3://{bucket}/prefix"

    return make
