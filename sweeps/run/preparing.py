"""What a sweep needs before it starts, checked without leaving a trace.

Neither Ray nor MLflow is imported before the data is known to be good, so errors show seconds earlier.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger.joined_front import reference_size
from sweeps.ledger.ledger import Ledger
from sweeps.run.data import load_dataset
from sweeps.run.places import DataPlace
from sweeps.tracking.connection import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Prepared:
    """A sweep that can start or continue: everything that could be wrong with its inputs was checked.

    Attributes:
        config: checked configuration.
        dataset: data set, loaded.
        home: folder or s3://bucket/prefix that holds sweeps.
        client: client of an MLflow server that answers.
        ledger: directory of the sweep that continues; None for a new one.
        force: True to take the lock of a process on another machine.
        place: place where the data were found; None where it should not be recorded.
        address: address of the Ray cluster that runs it, as in `--address`; None for this process's own.
    """

    config: SweepConfig
    dataset: Dataset
    home: Path | str
    client: "MlflowClient"
    ledger: Ledger | None = None
    force: bool = False
    place: DataPlace | None = None
    address: str | None = None

    @property
    def reference(self) -> tuple[int, int]:
        """Parameters and MACs of the reference model."""
        hidden = self.config.model.reference
        return reference_size([self.dataset.features, *hidden, len(self.dataset.classes)])


class ResumeError(ValueError):
    """A sweep cannot continue as asked; the message says why."""


def prepare(config: SweepConfig, home: Path | str, data_dir: Path | None = None) -> Prepared:
    """Load the data and connect to the tracking server; leave nothing behind if either fails.

    Args:
        config: checked configuration.
        home: folder or s3://bucket/prefix that holds sweeps.
        data_dir: folder that holds the data sets; see `arsvd.data.data_root`.

    Raises:
        DataError: the data is missing, broken or too small.
        StudyError: the study is requested to be kept in a database.
        NameTakenError: the data set's name stands for other data in the registry.
        TrackingError: the tracking server does not answer.
    """
    dataset = load_dataset(config, data_dir)
    # imported here so that faulty data is refused before Optuna's import takes its seconds
    from sweeps.search.opening import refuse_databases

    refuse_databases()
    place = DataPlace.of(config, data_dir)
    return Prepared(config, dataset, home, client_for(dataset), place=place)


def client_for(dataset: Dataset) -> "MlflowClient":
    """Connect to the tracking server, where runs and models of this data set can be kept under its name.

    Raises:
        NameTakenError: the name stands for other data.
        TrackingError: the tracking server does not answer, or the data set's experiment was deleted there.
    """
    client = connect()
    # imported here since it imports MLflow
    from sweeps.tracking.claiming import check_name
    from sweeps.tracking.runs import check_experiment

    check_experiment(client, dataset.name)
    check_name(client, dataset)
    return client
