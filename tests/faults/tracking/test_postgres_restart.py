"""PostgreSQL ends under the tracking server in mid-sweep, as in a crash, and starts again."""

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_restart_of_postgresql_costs_nothing(
    home: Any, new_server: Any, new_postgres: Any, small: tuple[str, ...], until: Any, until_written: Any,
    ended: Any, check_once: Any,
) -> None:  # fmt: skip
    cluster = new_postgres()
    server = new_server("server", cluster.create("mlflow"))
    server.start()
    home.variables["MLFLOW_TRACKING_URI"] = server.uri
    options = ("search.trials=10", "select.max_drop=0.5", *small, "training.epochs=100")
    sweep = home.start("sweep", "digits", *options)
    until_written(home)
    cluster.restart("immediate")
    filed = home.filed
    assert filed < 10
    until("a member is filed after the restart", lambda: home.filed > filed)
    cluster.stop("immediate")
    filed = home.filed
    until("members are filed while the database is away", lambda: home.filed >= min(filed + 2, 10))
    cluster.start()
    output, errors = ended(sweep)
    assert output.startswith("front of ")
    assert cluster.password not in output + errors
    home.audit(home.ledger, planned=10)
    check_once(server.client, home.ledger)
