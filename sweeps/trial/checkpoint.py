"""The training states of members, kept in the ledger under each member's own key."""

import logging
from typing import Protocol

from arsvd.training import MemberState, StateError

log = logging.getLogger(__name__)


class CheckpointStore(Protocol):
    """Where checkpoints are stored; a ledger is one. Failures to reach or write them raise `OSError`."""

    def write_checkpoint(self, key: str, content: bytes) -> None:
        """Replace a member's checkpoint, as a whole or not at all."""
        ...

    def read_checkpoint(self, key: str) -> bytes | None:
        """Return a member's checkpoint; None where there is none."""
        ...

    def drop_checkpoint(self, key: str) -> None:
        """Remove a member's checkpoint, if there is one."""
        ...


class Checkpoints:
    """Members' training states in a store.

    A checkpoint only ever saves time: where one cannot be read or written the reason is logged, and the
    member is trained from its beginning or without checkpoints.

    Args:
        store: store that holds them.
        every: seconds between two checkpoints of a member, which is what a crash may cost.
    """

    def __init__(self, store: CheckpointStore, every: float) -> None:
        self._store = store
        self.every = every

    def read(self, key: str) -> MemberState | None:
        """Return a member's training state; None where it begins anew."""
        try:
            content = self._store.read_checkpoint(key)
            return None if content is None else MemberState.from_bytes(content)
        except (StateError, OSError) as error:
            log.warning("member %s begins anew, its checkpoint is of no use: %s", key, error)
            return None

    def write(self, key: str, state: MemberState) -> None:
        """Keep a member's training state."""
        try:
            self._store.write_checkpoint(key, state.to_bytes())
        except OSError as error:
            log.warning("member %s goes on without a checkpoint: %s", key, error)

    def drop(self, key: str) -> None:
        """Remove the state of a member that is done."""
        try:
            self._store.drop_checkpoint(key)
        except OSError as error:
            log.warning("the checkpoint of member %s stays, though the member is filed: %s", key, error)
