"""compose.yaml: what the specification allows, closed to the outside, without a secret in it."""

import re
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[2] / "compose.yaml"
DOCKERFILE = FILE.parent / "mlflow_server" / "Dockerfile"


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_it_follows_the_compose_specification(compose: dict) -> None:
    specification = pytest.importorskip("compose_spec", reason="needs the package compose-spec")
    # merge keys are YAML's, not the specification's: compose resolves them, so does the test
    text = yaml.safe_dump(compose)
    parsed = specification.PyCompose.from_yaml(text)
    parsed.to_spec()
    assert set(parsed.services) == set(compose["services"])
    # and a fault would be seen
    for right, wrong in (
        ("ports:", "portz:"),
        ("service_healthy", "service_fine"),
        ("internal: true", "internal: x"),
    ):
        assert right in text
        with pytest.raises(ValueError, match=r"portz|service_fine|boolean"):
            specification.PyCompose.from_yaml(text.replace(right, wrong))


def test_the_services_wait_for_each_other(compose: dict) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "storage", "bucket", "server-image", "server"}
    assert services["server"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    for name in ("postgres", "storage"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert "HEALTHCHECK" in DOCKERFILE.read_text()
    for name, service in services.items():
        for dependency in service.get("depends_on", {}):
            assert dependency in services, name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"], name
    assert services["server-image"]["build"]["dockerfile"] == "mlflow_server/Dockerfile"
    assert {services[name]["image"] for name in ("bucket", "server-image", "server")} == {"arsvd-server"}


def test_no_port_is_open_beyond_loopback(compose: dict) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert published == {"server": ["127.0.0.1:5000:5000"]}
    assert compose["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "storage", "bucket"):
        assert compose["services"][name]["networks"] == ["inside"]
    assert not any(service.get("network_mode") == "host" for service in compose["services"].values())


def test_only_s3_listens_for_the_other_services(compose: dict) -> None:
    """The storage's other services ask nobody for a key."""
    program, *options = compose["services"]["storage"]["command"]
    assert program == "server"
    told = dict(option.partition("=")[::2] for option in options)
    addresses = {name: value for name, value in told.items() if name == "-ip" or name.endswith("ip.bind")}
    assert addresses == {"-ip": "127.0.0.1", "-ip.bind": "127.0.0.1", "-s3.ip.bind": "0.0.0.0"}
    assert told["-s3.config"] == compose["services"]["storage"]["configs"][0]["target"]
    # nothing else of it is started: -iam, -webdav, -sftp and the queue would listen too
    assert set(told) == {*addresses, "-s3", "-s3.config"}


def test_secrets_come_from_outside_and_have_no_default(compose: dict) -> None:
    used = re.findall(r"\$\{([^}]*)\}", FILE.read_text())
    assert len(used) == 6
    for variable in used:
        assert re.match(r"(POSTGRES_PASSWORD|S3_ACCESS_KEY|S3_SECRET_KEY):\?set it in \.env", variable)
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY", name):
                assert value.startswith("${"), name
    assert "@postgres" in compose["services"]["server"]["environment"]["ARSVD_DB"]
    assert not re.search(r"://[^@\s]*:[^@\s]*@", FILE.read_text())  # no user:password@
    assert "ENV" not in DOCKERFILE.read_text().split()


def test_the_server_runs_as_nobody_special(compose: dict) -> None:
    text = DOCKERFILE.read_text()
    assert text.index("USER server") < text.index("ENTRYPOINT")
    assert compose["services"]["server"]["cap_drop"] == ["ALL"]
    for source in re.findall(r"^COPY (\S+(?: \S+)*) \./?\S*$", text, re.M):
        for name in source.split():
            assert (FILE.parent / name).exists(), name


def test_the_server_takes_the_arguments_of_the_command(compose: dict) -> None:
    import subprocess
    import sys

    told = subprocess.run(
        [sys.executable, "-m", "mlflow_server", "--help"], capture_output=True, text=True, cwd=FILE.parent
    )
    assert told.returncode == 0, told.stderr
    options = [word for word in compose["services"]["server"]["command"] if word.startswith("--")]
    assert options == ["--host", "--port", "--data", "--artifacts"]
    assert all(option in told.stdout for option in options)
