"""The failure of a member, and of a device along with it."""

import traceback

import torch

from sweeps.config import MemberConfig
from sweeps.ledger.records import FAILED, MemberRecord


def check_device(device: torch.device) -> None:
    """Raise an error if a CUDA device is no longer usable in this process.

    After some errors (an illegal address, a fault of the hardware) every CUDA call of a process fails, and
    each member that it is given would be filed as failed. Raised from here, such an error ends the trial, and
    Tune starts a new process that continues from the checkpoints. Errors that leave the device usable, such
    as too little memory, do not show here.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cause_of(error: BaseException) -> str:
    """Name an error and where it happened."""
    where = "".join(traceback.format_tb(error.__traceback__)[-3:]).strip()
    return f"{type(error).__name__}: {error}\n{where}"


def failed_record(
    number: int, config: MemberConfig, key: str, cause: str, curves: dict[str, list[float]]
) -> MemberRecord:
    """Make the record of a member that failed, with what is known of its training."""
    return MemberRecord(key=key, number=number, status=FAILED, cause=cause, config=config, curves=curves)
