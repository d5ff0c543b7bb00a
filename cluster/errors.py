"""What goes wrong with clusters and is said to the user in a line."""


class ClusterError(RuntimeError):
    """A cluster that cannot be used as asked. The message says why and what to do."""
