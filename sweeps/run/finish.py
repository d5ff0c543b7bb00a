"""The end of a sweep: test figures, models, aliases, report. It can be repeated without duplicates."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import torch
from mlflow import MlflowClient
from torch import Tensor, nn

from arsvd import evaluate, whole
from arsvd.data import Dataset
from arsvd.evaluation.confidence import answers, drop_bound, paired_counts, sequence_bounds
from arsvd.evaluation.latency import BATCHES, measure_latency
from arsvd.modes import torch_threads
from sweeps.config import SweepConfig, config_to_params
from sweeps.ledger.joined_front import best_point
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import Front, FrontPoint, MemberRecord, TestMetrics
from sweeps.report import write_report
from sweeps.run.progress import Progress
from sweeps.tracking import LoggedVersion, ModelData, RegisteredVersion, SweepWriter
from sweeps.tracking.exporting import Exporters
from sweeps.tracking.publishing import FrontModels, configs, publish
from sweeps.tracking.worker import Missed, Worker
from sweeps.trial.weights import MemberWeights, load_member

T = TypeVar("T")

_MOST_AT_ONCE = 8  # models measured at a time: each holds the activations of some thousand images


@dataclass(frozen=True)
class Finished:
    """The results of a sweep's end.

    Attributes:
        front: front with test figures and latency.
        versions: registry versions of the front's models, in the front's order.
        aliases: versions by alias, over all sweeps of the data set.
        page: path or address of the interactive report.
        run_page: page of the sweep's run, for `sweeps.tracking.links.address`.
        missing: everything that could not be stored in MLflow.
    """

    front: Front
    versions: list[LoggedVersion]
    aliases: dict[str, RegisteredVersion]
    page: str
    run_page: str
    missing: tuple[Missed, ...] = ()


class Models:
    """Rebuilds the models of a sweep's points from the ledger, complete: images in [0, 1] to logits.

    Args:
        ledger: directory of the sweep.
        dataset: data set whose normalisation the models include.
        records: members, for the hashes of their weights.
    """

    def __init__(self, ledger: Ledger, dataset: Dataset, records: Sequence[MemberRecord]) -> None:
        self._ledger, self._dataset = ledger, dataset
        self._hashes = {record.key: record.weights_sha256 for record in records}
        self._member = lru_cache(maxsize=4)(self._load)  # points of one member are neighbours on a front

    def build(self, entry: FrontPoint) -> nn.Module:
        """Rebuild one model, in evaluation mode on the CPU.

        Raises:
            LedgerError: the weights are missing or not those that were filed.
        """
        return whole(self._member(entry.key).build(entry.point), self._dataset.mean, self._dataset.std).eval()

    def of(self, front: Front) -> list[nn.Module]:
        """Rebuild every model of a front, in its order.

        Raises:
            LedgerError: weights are missing or not those that were filed.
        """
        with torch_threads(1):  # small products: a second thread costs more than it brings
            return [self.build(entry) for entry in front.points]

    def dense(self, key: str) -> nn.Module:
        """Rebuild a member as it was trained.

        Raises:
            LedgerError: the weights are missing or not those that were filed.
        """
        return whole(self._member(key).dense, self._dataset.mean, self._dataset.std).eval()

    def _load(self, key: str) -> MemberWeights:
        with self._ledger.read_weights(key, self._hashes[key]) as path:
            return load_member(path)


def finish(
    ledger: Ledger,
    dataset: Dataset,
    front: Front,
    records: Sequence[MemberRecord],
    client: MlflowClient,
    writer: SweepWriter,
    worker: Worker,
    config: SweepConfig,
    progress: Progress,
    exporters: Exporters,
) -> Finished:
    """Test and time the final front, log and register its models, write the report.

    Args:
        ledger: directory of the sweep.
        dataset: data set of the sweep.
        front: front chosen by validation alone.
        records: all members of the sweep.
        client: client of the MLflow server.
        writer: writer of the sweep's runs, started.
        worker: thread that writes them.
        config: configuration of the sweep.
        progress: display for people.
        exporters: processes that write the models' files.
    """
    exporters.begin(len(front.points))  # while models are measured here
    models = Models(ledger, dataset, records)
    progress.note(f"measuring {len(front.points)} models of the front on {len(dataset.test):,} test images")
    select = config.select
    if front.dense is None:
        raise ValueError(f"none of {len(records)} members was trained, so there is no dense model")
    dense = models.dense(front.dense.key)
    networks = models.of(front)
    if select.confidence is not None:
        measured = sum(len(r.points) + sum(map(len, r.baselines.values())) for r in records)
        front = with_assurance(front, networks, dense, dataset, select.confidence, select.max_drop, measured)
    front = with_test(front, networks, dataset)
    front = with_dense_tests(front, models.dense, dataset)
    # nothing else runs while models are timed
    exporters.settle()
    worker.settle()
    front = with_latency(front, networks, dense, dataset)
    del networks  # the export rebuilds them one by one
    ledger.write_front(front)
    with ledger.new_report() as folder:
        write_report(folder, front, ledger.facts.id, dataset.name, config_to_params(config))
    total = len(front.points)
    progress.note(f"logging and registering {total} models")
    registered: list[None] = []  # one for each; another thread reads its length
    whole_front = FrontModels(
        front,
        models.build,
        ModelData.of(dataset),
        configs(records),
        config.select.max_drop,
        exporters,
        lambda: registered.append(None),
    )
    done = publish(
        worker,
        writer,
        client,
        ledger,
        whole_front,
        told=progress.note,
        watch=lambda: progress.step("registering models", min(len(registered), total), total),
    )
    progress.close()
    report = ledger.locate("report/front.html")
    return Finished(front, done.versions, done.aliases, report, writer.page, done.missing)


def with_assurance(
    front: Front,
    networks: Sequence[nn.Module],
    dense: nn.Module,
    dataset: Dataset,
    confidence: float,
    max_drop: float,
    measured: int,
) -> Front:
    """Bound each point's drop against the best dense member, allowing for the selection, and choose again.

    The bounds come from the confirmation images where there are any: no choice has seen them, so each model
    of the front, from the largest down, is tested at the whole confidence. Otherwise they come from the
    validation images, on which the front was chosen from all measured points: the confidence is then shared
    among these points.

    Args:
        front: front to bound.
        networks: models of its points, in their order.
        dense: best dense member.
        dataset: data set of the sweep.
        confidence: probability that the best point does not lose more than `max_drop`.
        max_drop: largest drop in accuracy allowed for the best point.
        measured: number of points from which the front was chosen.
    """
    fresh = dataset.confirmation
    split = dataset.validation if fresh is None else fresh
    images, labels = split.images.float() / 255, split.labels

    def right(network: nn.Module) -> Tensor:
        return answers(network, images, labels)

    reference, *found = _of_each([dense, *networks], right)
    dense_key = None if front.dense is None else front.dense.key
    same = [entry.key == dense_key and entry.point.family == "dense" for entry in front.points]
    if fresh is None:
        share = 1 - (1 - confidence) / max(1, measured)
        bounds = [drop_bound(*paired_counts(reference, own), len(labels), share) for own in found]
    else:
        order = [own for own, one in zip(found, same, strict=True) if not one]
        walked = iter(reversed(sequence_bounds(reference, order[::-1], confidence)))
        bounds = [0.0 if one else next(walked) for one in same]
    points = []
    for entry, bound, one in zip(front.points, bounds, same, strict=True):
        # the model itself loses nothing; a bound may exceed what there is to lose, and an accuracy is a share
        assured = round(front.dense_accuracy - (0.0 if one else bound), 12)  # no 0.9772000000000001
        points.append(replace(entry, assured=min(1.0, max(0.0, assured))))
    best = best_point(points, front.dense_accuracy, max_drop)
    return replace(
        front, points=tuple(points), best=best, confidence=confidence, confirmation_images=len(fresh or ())
    )


def with_test(front: Front, networks: Sequence[nn.Module], dataset: Dataset) -> Front:
    """Measure every point of a final front once on the test split; its models are given in its order."""
    tests = _tested(networks, dataset)
    points = [entry.with_test(test) for entry, test in zip(front.points, tests, strict=True)]
    return replace(_with_points(front, points), test_images=len(dataset.test))


def with_dense_tests(front: Front, build: Callable[[str], nn.Module], dataset: Dataset) -> Front:
    """Measure the two models that a front is compared with on the test split: no size means much alone.

    Args:
        front: front to complete.
        build: function that builds the dense model of a member from its key.
        dataset: data set of the sweep.
    """
    entries = {entry.key: entry for entry in (front.dense, front.reference) if entry is not None}
    tests = dict(zip(entries, _tested([build(key) for key in entries], dataset), strict=True))

    def tested(entry: FrontPoint | None) -> FrontPoint | None:
        return None if entry is None else entry.with_test(tests[entry.key])

    return replace(front, dense=tested(front.dense), reference=tested(front.reference))


def _tested(networks: Sequence[nn.Module], dataset: Dataset) -> list[TestMetrics]:
    images = dataset.test.images.float() / 255

    @torch.no_grad()
    def tested(network: nn.Module) -> TestMetrics:
        metrics = evaluate(network, images, dataset.test.labels)
        return TestMetrics(metrics.accuracy, metrics.macro_f1, metrics.loss)

    return _of_each(networks, tested)


def with_latency(front: Front, networks: Sequence[nn.Module], dense: nn.Module, dataset: Dataset) -> Front:
    """Time every point of a final front beside the best dense member, on one CPU thread."""
    images = dataset.validation.images[: max(BATCHES)].float() / 255
    measured = measure_latency(dense, networks, images)
    points = [replace(entry, latency=found) for entry, found in zip(front.points, measured, strict=True)]
    return _with_points(front, points)


def _of_each(networks: Sequence[nn.Module], measure: Callable[[nn.Module], T]) -> list[T]:
    """Measure models, as many at a time as this process has cores, each on one thread.

    Threads inside an operation would wait for each other at every small product, and on a machine that is
    busy with other work they would wait most of the time.
    """
    at_once = min(_MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    with (
        torch_threads(1),
        # torch keeps the number per thread
        ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        return list(pool.map(measure, networks))


def _with_points(front: Front, points: Sequence[FrontPoint]) -> Front:
    """Return the front with other figures at its points; the choice of the best point does not change."""
    best = None if front.best is None else points[front.points.index(front.best)]
    return replace(front, points=tuple(points), best=best)
