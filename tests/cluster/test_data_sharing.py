"""The data set reaches a node once: its trials read the same memory, and nothing is copied on the way."""

import json
from typing import Any

import pytest

# Trials of the real trainable say where in which file of shared memory their training images lie.
TRIALS = """
import json, os, time
from pathlib import Path
import torch
from cluster.attach import ray_session

with ray_session("auto"):
    import numpy as np
    import ray
    from ray import tune
    from arsvd.data.dataset import Split, describe
    from sweeps.trial.trainable import PackTrainable

    def mapping(address):
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, rights, offset, device, inode, *name = line.split()
            first, last = (int(part, 16) for part in span.split("-"))
            if first <= address < last:
                place = int(offset, 16) + address - first
                return {"file": f"{device} {inode}", "place": place, "rights": rights, "name": " ".join(name)}

    def own_bytes():
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

    class Looking(PackTrainable):
        def __init__(self, *arguments, **rest):
            self.own_before = own_bytes()  # the data set is taken from the object store after this
            super().__init__(*arguments, **rest)

        def step(self):
            images = self._workbench.dataset.train.images
            seen = mapping(images.data_ptr())
            seen |= {"sum": int(images.sum()), "pid": os.getpid()}
            seen["node"] = ray.get_runtime_context().get_node_id()
            seen |= {"grown": self.own_grown, "writing": self.writing}
            # every node gets trials: one process waits until all four are there
            here = Path(self.folder, str(os.getpid()))
            here.touch()
            end = time.monotonic() + 120
            while len(list(here.parent.iterdir())) < 4 and time.monotonic() < end:
                time.sleep(0.1)
            return {"seen": seen, "done": True}

        def setup(self, config, folder, **rest):
            self.folder = folder
            super().setup({"members": []}, **rest)
            self.own_grown = own_bytes() - self.own_before
            try:
                rest["data"]["train_images"][0] = 0
                self.writing = "possible"
            except ValueError as error:
                self.writing = str(error)

    def split(samples):
        generator = torch.Generator().manual_seed(samples)
        images = torch.randint(256, (samples, 3, 64, 64), generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(samples) % 10)

    data = describe("noise", tuple("abcdefghij"), split(4000), split(40), split(40))
    folder = Path("trials").absolute()
    folder.mkdir()
    trainable = tune.with_resources(
        tune.with_parameters(
            Looking,
            folder=str(folder),
            data=data.to_numpy(),
            analysis=None,
            ledger=str(Path("ledger").absolute()),
            threads=1,
        ),
        {"cpu": 0.5},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(num_samples=4),
        run_config=tune.RunConfig(
            storage_path=str(Path("tune").absolute()),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    results = tuner.fit()
    assert not results.errors, results.errors
    nodes = {node["NodeID"]: node["Resources"].get("CPU") for node in ray.nodes()}
    print(json.dumps({
        "seen": [result.metrics["seen"] for result in results],
        "sum": int(data.train.images.sum()),
        "bytes": data.train.images.numel(),
        "nodes": nodes,
    }))
"""


@pytest.mark.slow
def test_trials_of_a_node_read_the_same_memory(start_cluster: Any) -> None:
    home = start_cluster(2)  # two nodes of one core: four trials of half a core
    done = home.python(TRIALS)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    seen = told["seen"]
    assert {one["sum"] for one in seen} == {told["sum"]}
    assert len({one["pid"] for one in seen}) == 4
    by_node: dict[str, list[dict[str, Any]]] = {}
    for one in seen:
        by_node.setdefault(one["node"], []).append(one)
    assert {len(trials) for trials in by_node.values()} == {2}
    for trials in by_node.values():
        # the same bytes of the node's object store, which trials may only read
        assert len({(one["file"], one["place"]) for one in trials}) == 1
        assert {one["writing"] for one in trials} == {"assignment destination is read-only"}
        assert max(one["grown"] for one in trials) < told["bytes"]
        assert {one["name"].split("/")[1] for one in trials} == {"dev"}
    assert len({one["file"] for one in seen}) == 2  # one object store a node
