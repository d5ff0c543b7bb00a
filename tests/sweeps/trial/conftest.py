"""Trained members to look at: one small run on real digits, shared by a module's tests."""

from collections.abc import Callable, Iterator

import pytest
import torch

from arsvd.candidates import CANDIDATES
from arsvd.data import Dataset
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.records import MemberRecord
from sweeps.trial.packs import Outcome, Task, run_members
from sweeps.trial.weights import MemberWeights
from sweeps.trial.workbench import Analysis, Workbench


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=NO_CUDA)])
def workbench(request: pytest.FixtureRequest, digits: Dataset) -> Workbench:
    return Workbench(digits, torch.device(request.param))


@pytest.fixture(scope="session")
def analysis(new_config: Callable[..., SweepConfig]) -> Analysis:
    """Little to measure, for tests that look at something else."""
    return Analysis.from_config(
        new_config(
            "compression.basis={choice: [activation, weight]}",
            "compression.families=[threshold, refit]",
            "compression.energy.points=8",
        )
    )


@pytest.fixture(scope="session")
def full_analysis(new_config: Callable[..., SweepConfig]) -> Analysis:
    """Every basis, rule and family, at few thresholds."""
    return Analysis.from_config(
        new_config(
            "compression.basis={choice: [loss, activation, weight]}",
            "compression.rule={choice: [energy, entropy]}",
            f"compression.families=[{', '.join(CANDIDATES.names)}]",
            "compression.energy.points=8",
        )
    )


Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def run(workbench: Workbench, analysis: Analysis) -> Run:
    """Train members, numbered from 0."""

    def train(*configs: MemberConfig, bench: Workbench = workbench, at: Analysis = analysis) -> list[Outcome]:
        return list(run_members([Task(n, config) for n, config in enumerate(configs)], bench, at))

    return train


@pytest.fixture(scope="session")
def trained(
    run: Run, full_analysis: Analysis, new_member: Callable[..., MemberConfig]
) -> list[tuple[MemberRecord, MemberWeights]]:
    """Members of every kind: three depths, LoRITa, every basis and rule, dropout, fine-tuning."""
    outcomes = run(
        new_member(hidden=[24, 16], basis="loss", finetune_epochs=1, seed=1, epochs=3),
        new_member(hidden=[16, 16], energy=0.5, basis="weight", dropout=0.2, seed=2, finetune_epochs=1),
        new_member(hidden=[20], factors=2, rule="entropy", basis="weight", energy=0.9, finetune_epochs=1),
        new_member(hidden=[12, 8, 8], schedule="cosine", label_smoothing=0.1, finetune_epochs=0),
        at=full_analysis,
    )
    found = []
    for record, weights in outcomes:
        assert record.cause is None
        assert weights is not None
        found.append((record, weights))
    return sorted(found, key=lambda pair: pair[0].number)
