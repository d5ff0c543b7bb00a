"""The Ray Tune trial: one actor, reused from pack to pack, with the data loaded once."""

import functools
import gc
from typing import Any

import torch
from ray import tune

from arsvd.data import Dataset
from sweeps.config import MemberConfig
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FINISHED
from sweeps.trial.checkpoint import Checkpoints
from sweeps.trial.epochs import EpochReport
from sweeps.trial.packs import Task, run_members
from sweeps.trial.weights import save_member
from sweeps.trial.workbench import Analysis, Workbench


class PackTrainable(tune.Trainable):
    """Trains the members of a pack and files each in the ledger as soon as it is measured.

    The result holds only the keys: records are read from the ledger, which survives. So do the checkpoints of
    members in training: a process that gets the pack of a dead one continues from there.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: dict[str, Any],
        analysis: Analysis,
        ledger: str,
        threads: int,
        checkpoint_every: float = 60.0,
        gpu: bool = False,
    ) -> None:
        """Prepare the process once; `reset_config` gives it the next pack.

        Args:
            config: configuration of the first pack.
            data: arrays of the data set in the object store, shared without copies.
            analysis: points at which members are measured.
            ledger: directory of the sweep.
            threads: number of threads for torch.
            checkpoint_every: seconds between two checkpoints of a member in training.
            gpu: True if the trial has a GPU, or a share of one; otherwise members are trained on the CPU.

        Raises:
            RuntimeError: torch cannot use the GPU that the trial has.
        """
        torch.set_num_threads(threads)
        # What torch sees does not decide. Ray hides no GPU from a trial that asked for none, and a GPU that
        # torch cannot use would leave a CPU with packs that were sized for CUDA.
        if gpu and not torch.cuda.is_available():
            raise RuntimeError(
                "the trial has a GPU that torch cannot use (a CPU build, or too old a driver); "
                "resources.gpu=0 trains on the CPU"
            )
        device = torch.device("cuda" if gpu else "cpu")
        self._ledger = Ledger(ledger)
        self._checkpoints = Checkpoints(self._ledger, checkpoint_every)
        self._workbench = Workbench(Dataset.from_numpy(data), device)
        self._analysis = analysis
        self._members: list[dict[str, Any]] = config["members"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next pack in the same process."""
        self._members = new_config["members"]
        return True

    def step(self) -> dict[str, Any]:
        """Train the pack's members; those on file are not trained again."""
        # by key: a sampler may propose one member twice where all share a seed
        wanted = {
            entry["key"]: Task(entry["number"], MemberConfig.from_dict(entry["config"]), entry["key"])
            for entry in self._members
        }
        missing = []
        for key, task in wanted.items():
            if self._ledger.member(key) is None:
                missing.append(task)
            else:
                self._checkpoints.drop(key)  # a process may die between the record and its own `drop`
        best = functools.partial(BestSoFar.read, self._ledger.storage)
        total = sum(task.config.epochs for task in missing)
        report = EpochReport(self._ledger.facts.id, self.trial_id, total)
        for record, weights in run_members(
            missing, self._workbench, self._analysis, self._checkpoints, report, best
        ):
            if record.status == FINISHED and weights is not None:
                write = functools.partial(save_member, weights=weights)
                record = record.with_weights(self._ledger.write_weights(record.key, write))
            self._ledger.write_member(record)
            self._checkpoints.drop(record.key)
        gc.collect()
        return {"keys": list(wanted), "done": True}
