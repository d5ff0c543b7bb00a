"""What may be written into a submitted job: the dashboard shows its command and its environment."""

import re
from collections.abc import Iterable, Mapping

from cluster.errors import ClusterError

_PREFIXES = ("ARSVD_", "MLFLOW_")
# the short ones as words only: KEYBOARD and BYPASS are no secrets
_SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL|PRIVATE|AUTH|APIKEY|_(?:PASS|PWD|KEYS?|KEK)(?:_|$)",
    re.IGNORECASE,
)
# a password as an option of an address, with what stands before the word: sslpassword, access_token
SECRET_OPTION = r"[?&]\w*(?:password|passphrase|passwd|pwd|token)="  # noqa: S105 - a pattern
_SECRET_IN_ADDRESS = re.compile(rf"://[^/\s@:]*:[^\s@]+@|{SECRET_OPTION}", re.IGNORECASE)


def shippable(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Choose the variables that a job takes along.

    Args:
        environment: environment of this process.

    Returns:
        The ARSVD_* and MLFLOW_* variables that are set and hold no secret, and the names of those that do by
        their name: they stay here.

    Raises:
        ClusterError: the address in a variable holds a password.
    """
    ours = {
        name: value for name, value in environment.items() if name.startswith(_PREFIXES) and value.strip()
    }
    withheld = sorted(name for name in ours if _SECRET_NAME.search(name))
    shipped = {name: value for name, value in ours.items() if name not in withheld}
    for name, value in shipped.items():
        if _SECRET_IN_ADDRESS.search(value):
            raise ClusterError(
                f"the address in {name} holds a password, and whoever sees the dashboard would read it: give "
                "the address without it, and the password to the head node (see docs/cluster.md, Credentials)"
            )
    return shipped, withheld


def refuse_secrets(what: str, texts: Iterable[str]) -> None:
    """Make sure that no address in some texts holds a password.

    Args:
        what: name for them in the message.
        texts: arguments, or the content of a file.

    Raises:
        ClusterError: one does; the message does not repeat it.
    """
    if any(_SECRET_IN_ADDRESS.search(text) for text in texts):
        raise ClusterError(
            f"{what} hold an address with a password, and whoever sees the dashboard would read it: leave "
            "the password out and give it to the head node, in PGPASSWORD or ~/.pgpass (see docs/cluster.md, "
            "Credentials)"
        )
