"""Models of a front as files, in MLflow's form; where they are many, several processes write them."""

import contextlib
import hashlib
import logging
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

import arsvd
from sweeps.tracking.connection import quiet
from sweeps.tracking.failures import one_line
from sweeps.tracking.registry import WEIGHTS_FILE

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

log = logging.getLogger(__name__)

# torch.export takes a batch of 1 for a constant, and writes a model that accepts no other batch. 3 is none of
# the sizes it treats specially.
_EXAMPLES = 3
_TOLERANCE = 1e-5
_PACKAGES = ("mlflow", "numpy", "torch")
# A process needs six seconds until it exports, and then a quarter of a second a model.
_MODELS_A_PROCESS = 12
_MOST_PROCESSES = 16  # one thread registers what they write, and is as fast as about three of them
_MEMORY_A_PROCESS = 1_000_000_000  # bytes, roughly
_MEMORY, _GROUP, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Order:
    """A model to export.

    Attributes:
        network: float32 images (batch, channels, height, width) in [0, 1] to logits (batch, classes).
        header: what its safetensors file says of it.
        images: uint8 (images, channels, height, width), one or more, to try it on.
        dataset: name, content hash and classes of the data set.
        model_id: of the logged model.
        location: of the logged model's artifacts.
        run_id: of the run that it belongs to.
    """

    network: nn.Module
    header: dict[str, Any]
    images: Tensor
    dataset: tuple[str, str, tuple[str, ...]]
    model_id: str
    location: str
    run_id: str

    @classmethod
    def of(
        cls,
        network: nn.Module,
        header: dict[str, Any],
        images: Tensor,
        dataset: tuple[str, str, tuple[str, ...]],
        model: "LoggedModel",
    ) -> Self:
        """Order the files of a logged model."""
        ids = model.model_id, model.artifact_location, model.source_run_id
        return cls(network.cpu().eval(), header, images, dataset, *ids)


@dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
        folder: its files, to be uploaded.
        sha256: of its safetensors file.
    """

    folder: Path
    sha256: str


def exported(orders: Iterable[Callable[[], Order]], count: int) -> Generator[Export]:
    """Write the files of models, in order; each is gone when the next is asked for.

    Where a process that writes them is killed, such as for its memory, this one writes what is left.

    Args:
        orders: make the orders, few of them ahead of the model that is asked for.
        count: how many there are: it decides how many processes write them.

    Raises:
        ValueError: a model does not give one logit a class, or its exported form disagrees with it.
    """
    with tempfile.TemporaryDirectory(prefix="arsvd-") as folder, _exporter(count) as exporter:
        pending: deque[_Begun] = deque()
        for number, order in enumerate(orders):
            pending.append(exporter.begin(order(), Path(folder) / str(number)))
            while len(pending) > exporter.ahead:
                yield from _first(exporter, pending)
        while pending:
            yield from _first(exporter, pending)


@dataclass(frozen=True)
class _Begun:
    order: Order
    place: Path
    sha256: "Future[str]"


def _first(exporter: "_Exporter", pending: deque[_Begun]) -> Iterator[Export]:
    place, sha256 = exporter.end(pending.popleft())
    yield Export(place / "model", sha256)
    shutil.rmtree(place)


def processes(count: int, cores: int) -> int:
    """Return how many processes write `count` models; 1 stands for this one."""
    return max(1, min(cores, _MOST_PROCESSES, count // _MODELS_A_PROCESS))


def free_memory() -> int | None:
    """Return how many bytes new processes can take; None where the system does not tell.

    What a control group has left counts as well, and that of every group around it.
    """
    found = []
    with contextlib.suppress(OSError, KeyError, ValueError):
        found.append(1024 * _table(_MEMORY)["MemAvailable:"])
    for group, limit, used, file_cache in _groups():
        with contextlib.suppress(OSError, KeyError, ValueError):  # "max" stands for no limit
            taken = int((group / used).read_text()) - _table(group / "memory.stat")[file_cache]
            found.append(max(0, int((group / limit).read_text()) - taken))
    return min(found, default=None)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """Yield the control groups around this process, with the names that their version has for figures."""
    new = "memory.max", "memory.current", "inactive_file"
    old = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    with contextlib.suppress(OSError, ValueError):
        for line in _GROUP.read_text().splitlines():
            number, controllers, inside = line.split(":", 2)
            if number == "0" or "memory" in controllers.split(","):
                root = _GROUPS if number == "0" else _GROUPS / "memory"
                folder = root / inside.lstrip("/")
                for group in (folder, *folder.parents):
                    if group.is_relative_to(root):
                        yield group, *(new if number == "0" else old)


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}


@contextlib.contextmanager
def _exporter(count: int) -> "Iterator[_Exporter]":
    import loky

    cores, free = loky.cpu_count(), free_memory()
    number = processes(count, cores if free is None else min(cores, free // _MEMORY_A_PROCESS))
    if number == 1:
        yield _Exporter(_Here(), 0)
        return
    executor = loky.ProcessPoolExecutor(number, timeout=60, initializer=_prepare_process)
    try:
        yield _Exporter(executor, 2 * number)
    finally:
        executor.shutdown(wait=True, kill_workers=True)


class _Exporter:
    """Runs exports in other processes, and in this one from when one of them was killed.

    Args:
        executor: of the processes.
        ahead: how many exports may be under way beside the one that is waited for.
    """

    def __init__(self, executor: Executor, ahead: int) -> None:
        self._executor, self.ahead = executor, ahead

    def begin(self, order: Order, place: Path) -> _Begun:
        """Have a model written below a new folder."""
        place.mkdir()
        try:
            return _Begun(order, place, self._executor.submit(write, order, place))
        except BrokenProcessPool as error:
            self._go_on_here(error)
            return _Begun(order, place, self._executor.submit(write, order, place))

    def end(self, begun: _Begun) -> tuple[Path, str]:
        """Wait for a model; return its folder and the SHA-256 of its safetensors file."""
        try:
            return begun.place, begun.sha256.result()
        except BrokenProcessPool as error:
            self._go_on_here(error)
        # a new folder: in the first may be half a model, and a process that has not quite ended
        again = begun.place.with_name(f"{begun.place.name}-again")
        again.mkdir()
        return again, write(begun.order, again)

    def _go_on_here(self, error: BrokenProcessPool) -> None:
        if not isinstance(self._executor, _Here):
            log.warning("models are exported one by one from here on: %s", one_line(str(error)))
            self._executor, self.ahead = _Here(), 0


class _Here(Executor):
    """Runs a call in this thread, when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run it."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which ends this process
    torch.set_num_threads(1)
    quiet()


def write(order: Order, folder: Path) -> str:
    """Write a model's files below a folder: pt2 with a dynamic batch, and the safetensors file beside it.

    Returns:
        SHA-256 of the safetensors file.

    Raises:
        ValueError: see `exported`.
    """
    network = order.network
    name, data_hash, classes = order.dataset
    images = order.images[:_EXAMPLES]
    images = images.repeat(-(-_EXAMPLES // len(images)), 1, 1, 1)[:_EXAMPLES]
    example = (images.float() / 255.0).contiguous()
    with torch.no_grad():
        logits = network(example)
    if logits.shape != (len(example), len(classes)):
        raise ValueError(
            f"a model of {name!r} must map {tuple(example.shape)} to {(len(example), len(classes))}, "
            f"got {tuple(logits.shape)}"
        )
    weights = folder / WEIGHTS_FILE
    arsvd.save(network, weights, order.header)
    single = np.dtype(np.float32)
    mlflow.pytorch.save_model(
        network,
        str(folder / "model"),
        mlflow_model=Model(
            artifact_path=order.location,
            model_uuid=order.model_id,
            run_id=order.run_id,
            model_id=order.model_id,
        ),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(single, (-1, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(single, (-1, len(classes)))]),
        ),
        input_example=example.numpy(),
        # stated, or MLflow loads the model in a subprocess to find out what it imports
        pip_requirements=[f"{package}=={package_version(package).split('+')[0]}" for package in _PACKAGES],
        extra_files=[str(weights)],
        metadata={"dataset": name, "data_hash": data_hash, "classes": list(classes)},
        serialization_format="pt2",
    )
    _check_export(folder / "model" / "data" / "model.pt2", network, example)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _check_export(path: Path, network: nn.Module, example: Tensor) -> None:
    """Compare an exported model with its origin at other batch sizes, and take local paths out of it."""
    program = torch.export.load(path)
    exported = program.module()
    for images in (example[:1], torch.cat([example, example])):
        with torch.no_grad():
            wanted = network(images)
            try:
                got = exported(images)
            except Exception as error:  # a guard of the export; torch raises several kinds
                raise ValueError(
                    f"the exported model does not take a batch of {len(images)}: {error}"
                ) from error
        if not torch.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
            worst = float((got - wanted).abs().max())
            raise ValueError(f"the exported model's logits differ by {worst:.2g} at batch {len(images)}")
    for node in program.graph.nodes:
        # the lines of source that made the node, with the paths of the machine that exported it
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path)
