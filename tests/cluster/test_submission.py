"""What is shipped with a job, and what never is."""

from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.secrecy import refuse_secrets, shippable
from cluster.shipping import pack, pinned_requirements


def test_only_settings_of_ours_that_hold_no_secret_are_shipped() -> None:
    shipped, withheld = shippable(
        {
            "ARSVD_DATA": "/shared/data",
            "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
            "MLFLOW_EXPERIMENT_NAME": " ",
            "MLFLOW_TRACKING_USERNAME": "me",
            "MLFLOW_TRACKING_PASSWORD": "hunter2",
            "MLFLOW_TRACKING_TOKEN": "hunter2",
            "ARSVD_API_KEY": "hunter2",
            "ARSVD_api_key": "hunter2",
            "ARSVD_FOO_KEY": "hunter2",
            "ARSVD_KEYS_OF_THE_BUCKET": "hunter2",
            "ARSVD_PASS": "hunter2",
            "MLFLOW_CRYPTO_KEK_PASSPHRASE": "hunter2",
            "MLFLOW_CRYPTO_KEK_VERSION": "2",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "hunter2",
            "MLFLOW_MYSQL_SSL_KEY": "/home/me/key.pem",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "PGPASSWORD": "hunter2",
            "PATH": "/bin",
        }
    )
    assert shipped == {
        "ARSVD_DATA": "/shared/data",
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "MLFLOW_TRACKING_USERNAME": "me",
    }
    assert withheld == [
        "ARSVD_API_KEY",
        "ARSVD_FOO_KEY",
        "ARSVD_KEYS_OF_THE_BUCKET",
        "ARSVD_PASS",
        "ARSVD_api_key",
        "MLFLOW_CRYPTO_KEK_PASSPHRASE",
        "MLFLOW_CRYPTO_KEK_VERSION",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_MYSQL_SSL_KEY",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
    ]


def test_ordinary_settings_are_shipped() -> None:
    ordinary = dict.fromkeys(
        (
            "ARSVD_HOME",
            "ARSVD_DATA",
            "ARSVD_STUDY",
            "ARSVD_BYPASS",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_INSECURE_TLS",
            "MLFLOW_S3_ENDPOINT_URL",
            "MLFLOW_S3_IGNORE_TLS",
            "MLFLOW_HTTP_REQUEST_TIMEOUT",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
            "MLFLOW_KEYBOARD",
        ),
        "set",
    )
    assert shippable(ordinary) == (ordinary, [])


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@mlflow.example.org",
        "search.storage=postgresql://me:hunter2@db:5432/study",
        "postgresql+psycopg2://me:p@ss:w/rd@db/study",
        "mysql://:hunter2@db/study",
        "postgresql://db/study?user=me&password=hunter2",
        "postgresql://me@db/study?sslmode=verify-full&sslpassword=hunter2",
        "https://mlflow.example.org/?passphrase=hunter2",
        "https://mlflow.example.org/?access_token=hunter2",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ClusterError, match="hold an address with a password") as refused:
        refuse_secrets("the arguments", ["arsvd", text])
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ClusterError, match="the address in MLFLOW_TRACKING_URI holds a password"):
        shippable({"MLFLOW_TRACKING_URI": text})


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@db:5432/study",
        "s3://bucket/prefix",
        "http://127.0.0.1:8265",
        "lr: {loguniform: [3e-4, 1e-2]}",
        "dataset.path=/shared/a:b@c",
        "postgresql://me@db/study?passfile=/home/me/.pgpass&sslmode=require",
    ],
)
def test_settings_without_a_password_pass(text: str) -> None:
    refuse_secrets("the arguments", [text])
    assert shippable({"ARSVD_X": text}) == ({"ARSVD_X": text}, [])


def test_a_package_is_packed_whole_and_knows_its_version(tmp_path: Path) -> None:
    package = tmp_path / "from" / "sweeps"
    (package / "configs").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    (package / "__init__.py").touch()
    (package / "configs" / "digits.yaml").touch()
    (package / "__pycache__" / "x.pyc").touch()
    folder = tmp_path / "job"
    folder.mkdir()
    pack(folder, [package], "arsvd")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    (about,) = {name for name in files if name.endswith("METADATA")}
    assert files == {"sweeps/__init__.py", "sweeps/configs/digits.yaml", about}
    assert about.startswith("arsvd-")
    assert "Name: arsvd\n" in (folder / about).read_text()


def test_requirements_are_those_of_this_machine() -> None:
    lines = pinned_requirements("arsvd")
    names = [line.partition("==")[0] for line in lines]
    assert {"torch", "optuna", "mlflow"} <= set(names)
    assert "ray" not in names
    assert "pytest" not in names
    assert all(line.partition("==")[2] for line in lines)
    assert not [line for line in lines if "+" in line]
