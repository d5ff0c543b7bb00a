"""The addresses of sweeps' pages in MLflow's web interface, below a server's address."""

from sweeps.tracking.outages import redact

_KIND = "workflowType=machine_learning"  # otherwise MLflow shows its views for language models
LOCAL_SERVER = "http://127.0.0.1:5000"  # address of `arsvd ui`, unless it gets another port
EXPERIMENTS_PAGE = f"#/experiments?{_KIND}"


def address(server: str, page: str) -> str:
    """Return the full address of a page, without the credentials that the server's address may hold.

    Args:
        server: address of the server.
        page: page as returned by another function of this module.
    """
    return f"{redact(server).rstrip('/')}/{page}"


def run_page(experiment: str, run: str) -> str:
    """Return the page of a run."""
    return f"#/experiments/{experiment}/runs/{run}?{_KIND}"


def runs_page(experiment: str) -> str:
    """Return the page with the runs of an experiment."""
    return f"#/experiments/{experiment}/runs?{_KIND}"
