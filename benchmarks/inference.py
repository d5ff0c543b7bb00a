"""How fast dense and compressed models answer: eager, compiled and in ONNX Runtime.

Needs torch alone; ONNX Runtime is measured where it is installed, a GPU where there is one. Models take turns
call by call, so that a machine that slows down slows all of them alike; figures are medians of ratios within
one round. Weights are random: a product takes as long whatever the numbers are.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import arsvd
from arsvd.modes import torch_threads
from arsvd.sites.linear import LowRankLinear
from benchmarks.reporting import arguments, print_table, report

WIDTHS = (784, 512, 256, 10)
Call = Callable[[Tensor], Any]
Ranks = tuple[int | None, ...]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        batches: rows a call.
        ranks: of the compressed models of `WIDTHS`.
        layers: (in, out) of single layers.
        layer_ranks: of the compressed layers.
        rounds: turns of each model at each batch.
        compiled: batches at which models are compiled as well; each takes seconds to compile.
    """

    batches: tuple[int, ...]
    ranks: tuple[Ranks, ...]
    layers: tuple[tuple[int, int], ...]
    layer_ranks: tuple[int, ...]
    rounds: int
    compiled: tuple[int, ...]


FULL = Size(
    batches=(1, 8, 64, 256, 1024),
    ranks=((10, 10, None), (20, 10, None), (32, 16, None), (35, 20, None), (60, 40, None), (100, 70, None)),
    layers=((784, 512), (3072, 1024)),
    layer_ranks=(5, 10, 16, 20, 32, 35, 50, 70, 100, 150),
    rounds=40,
    compiled=(1, 256),
)
SIZES = {
    "full": FULL,
    "small": Size((1, 256), ((20, 10, None), (35, 20, None)), ((784, 512),), (10, 20, 35), 20, (256,)),
    "tiny": Size((1, 64), ((20, 10, None),), ((784, 512),), (20,), 3, ()),
}


def plain_forward(layer: LowRankLinear, x: Tensor) -> Tensor:
    """Call both factors as `nn.Linear` would: what `LowRankLinear` is compared with."""
    return F.linear(F.linear(x, layer.right), layer.left, layer.bias)


def measure_layers(size: Size, threads: int, batch: int = 256) -> list[dict[str, Any]]:
    """Compare single layers: dense, two plain products, and `LowRankLinear`."""
    rows = []
    for inputs, outputs in size.layers:
        x = torch.rand(batch, inputs)
        dense = nn.Linear(inputs, outputs)
        for rank in size.layer_ranks:
            layer = LowRankLinear(inputs, rank, outputs)
            calls: dict[str, Call] = {"dense": dense, "plain": partial(plain_forward, layer), "layer": layer}
            times = _turns(calls, x, size.rounds)
            flops = inputs * outputs / (rank * (inputs + outputs))
            rows.append(
                {
                    "layer": f"{inputs}x{outputs}",
                    "rank": rank,
                    "batch": batch,
                    "threads": threads,
                    "flop_ratio": flops,
                    "speedup": _speedup(times["dense"], times["layer"]),
                    "share": _speedup(times["dense"], times["layer"]) / flops,
                    "plain_share": _speedup(times["dense"], times["plain"]) / flops,
                    "dense_us": _median(times["dense"]),
                }
            )
    return rows


def measure_models(size: Size, device: torch.device, threads: int) -> list[dict[str, Any]]:
    """Compare whole models with the dense one, at every batch and in every way to run them."""
    dense = arsvd.MLP(WIDTHS).to(device).eval()
    found = arsvd.spectra(dense)
    models: dict[str, nn.Module] = {"dense": dense}
    for ranks in size.ranks:
        chosen = arsvd.plan(found, arsvd.Ranks(ranks))
        name = "-".join("dense" if rank is None else str(rank) for rank in ranks)
        models[name] = arsvd.compress(dense, found, chosen).to(device).eval()
    sessions: dict[str, Call] = {}
    if device.type == "cpu" and all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        sessions = {name: onnx_session(model, threads) for name, model in models.items()}
    rows: list[dict[str, Any]] = []
    for batch in size.batches:
        x = torch.rand(batch, WIDTHS[0], device=device)
        for way, calls in _ways(models, sessions, batch in size.compiled):
            times = _turns(calls, x, size.rounds)
            for name, model in models.items():
                flops = _macs(dense) / _macs(model)
                speedup = _speedup(times["dense"], times[name])
                rows.append(
                    {
                        "device": device.type,
                        "threads": threads,
                        "way": way,
                        "batch": batch,
                        "ranks": name,
                        "flop_ratio": flops,
                        "us": _median(times[name]),
                        "speedup": speedup,
                        "share": speedup / flops,
                    }
                )
    return rows


def _ways(
    models: Mapping[str, nn.Module], sessions: Mapping[str, Call], compiled: bool
) -> Iterator[tuple[str, Mapping[str, Call]]]:
    yield "eager", models
    if compiled:
        torch._dynamo.reset()
        yield "compiled", {name: torch.compile(model, dynamic=False) for name, model in models.items()}
    if sessions:
        yield "onnxruntime", sessions


def onnx_session(model: nn.Module, threads: int) -> Call:
    """Export a model with a dynamic batch and open it in ONNX Runtime."""
    import onnxruntime  # type: ignore[import-untyped,unused-ignore]

    batch = torch.export.Dim("batch")
    shapes = ({0: batch},)
    program = torch.onnx.export(
        model, (torch.rand(3, WIDTHS[0]),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program.save(path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    return lambda x: session.run(None, {entry: x.numpy()})


@torch.inference_mode()
def _turns(calls: Mapping[str, Call], x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Time each call in turn: seconds, one entry a round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # the first call allocates, compiles and chooses kernels
        call(x)
        call(x)
    for _ in range(rounds):
        for name, call in calls.items():
            call(x)  # brings the weights back into the caches
            times[name].append(min(_seconds(call, x) for _ in range(2)))
    return times


def _seconds(call: Call, x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    began = time.perf_counter()
    call(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - began


def _speedup(dense: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(dense, other, strict=True))


def _median(times: Sequence[float]) -> float:
    return 1e6 * statistics.median(times)


def _macs(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)


def shares(layers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Pick the shares of layer 784 to 512 by rank; with more threads than one, the key says how many."""
    found: dict[str, dict[str, float]] = {}
    for row in layers:
        if row["layer"] == "784x512":
            threads = "" if row["threads"] == 1 else f"_{row['threads']}_threads"
            for kind in ("share", "plain_share"):
                name = f"{'layer_share' if kind == 'share' else kind}_batch256{threads}"
                found.setdefault(name, {})[str(row["rank"])] = round(row[kind], 3)
    return found


def main() -> None:
    """Run the benchmark."""
    given = arguments(__doc__)
    size = SIZES[given.size]
    torch.manual_seed(0)
    layers: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    for threads in sorted({1, torch.get_num_threads()}):
        with torch_threads(threads):
            layers += measure_layers(size, threads)
            models += measure_models(size, torch.device("cpu"), threads)
    if torch.cuda.is_available():
        models += measure_models(size, torch.device("cuda"), torch.get_num_threads())
    print("single layers; share: of the FLOP ratio that arrives as speed; plain: by two plain products\n")
    columns = ["layer", "threads", "batch", "rank", "flop_ratio", "speedup", "share", "plain_share"]
    print_table(columns, [[row[column] for column in columns] for row in layers])
    columns = ["device", "threads", "way", "batch", "ranks", "us", "flop_ratio", "speedup", "share"]
    print_table(columns, [[row[column] for column in columns] for row in models])
    summary = {
        **shares(layers),
        "model_speedup": {
            f"{row['way']} batch {row['batch']} ranks {row['ranks']}": round(row["speedup"], 2)
            for row in models
            if row["device"] == "cpu" and row["threads"] == 1 and row["batch"] in (1, 256)
            if row["ranks"] != "dense"
        },
        "cuda": torch.cuda.is_available(),
    }
    found = {"n": size.rounds, "seeds": [0], "widths": WIDTHS, "layers": layers, "models": models}
    report("inference", given.size, given.results, found, summary)


if __name__ == "__main__":
    main()
