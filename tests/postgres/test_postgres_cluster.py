"""The cluster that other tests stand on: real, on loopback, closed without its password."""

import psycopg2
import pytest


def test_it_answers_with_the_password_only(postgres) -> None:
    assert "PostgreSQL" in postgres.run("psql", "-d", "postgres", "-c", "select version()")
    with psycopg2.connect(postgres.uri()) as connection, connection.cursor() as cursor:
        cursor.execute("show listen_addresses")
        assert cursor.fetchone() == ("127.0.0.1",)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres.uri(password="wrong"))


def test_committed_data_survives_a_crash(new_postgres) -> None:
    cluster = new_postgres()
    uri = cluster.create("kept")
    cluster.run("psql", "-d", "kept", "-c", "create table facts as select 42 as answer")
    cluster.restart("immediate")
    assert cluster.uri("kept") == uri
    assert cluster.run("psql", "-d", "kept", "-At", "-c", "select answer from facts") == "42\n"
    cluster.stop()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(uri)
