"""Templates hold against the parsers of what reads them, and start nothing that is open to strangers."""

import copy
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "cluster" / "templates"
LAUNCHERS = ("aws", "gcp")
# pytest imports tests by their paths, so what lies beside them is read by its path too
schema = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("kuberay_schema.py"))))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((TEMPLATES / name).read_text()))


def launcher(provider: str) -> dict[str, Any]:
    return documents(f"{provider}/cluster.yaml")[0]


# Ray's own reading of a launcher file. What AWS offers is asked over the network; here it is told.
PREPARE = """
import json, sys, yaml
from ray.autoscaler._private import util
from ray.autoscaler._private.aws import node_provider
node_provider.list_ec2_instances = lambda *_: []
config = yaml.safe_load(open(sys.argv[1]))
prepared = util.prepare_config(config)
util.validate_config(prepared)
print(json.dumps(prepared))
"""

# Ray's own choice of security groups, which asks AWS unless every node type names one.
GROUPS = """
import sys, yaml
from ray.autoscaler._private.aws import config as aws

def ask(*_):
    sys.exit("AWS was asked")

aws._resource = aws._client = ask
text = open(sys.argv[1]).read()
assert aws._configure_security_group(yaml.safe_load(text)) == yaml.safe_load(text)
"""


@pytest.mark.parametrize("provider", LAUNCHERS)
def test_ray_reads_the_launcher_file(provider: str, tmp_path: Path) -> None:
    path = TEMPLATES / provider / "cluster.yaml"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    read = [sys.executable, "-c", PREPARE]
    done = subprocess.run([*read, str(path)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    prepared = yaml.safe_load(done.stdout.splitlines()[-1])
    assert set(prepared["available_node_types"]) == {"head", "worker"}
    assert prepared["available_node_types"]["worker"]["resources"]["GPU"] == 1
    # Ray's reader does refuse: a misspelt key of the same file
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(path.read_text().replace("head_node_type:", "head_node_kind:"))
    refused = subprocess.run(
        [*read, str(wrong)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert refused.returncode != 0
    assert "head_node" in refused.stderr


@pytest.mark.parametrize("provider", LAUNCHERS)
def test_a_launched_cluster_is_closed(provider: str) -> None:
    config = launcher(provider)
    starts = [
        command
        for group in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[group]
        if "ray start" in command
    ]
    assert len(starts) == 2
    # every start reads the environment that turns tokens on, and the token reaches every node
    environment = next(line for line in config["setup_commands"] if ".arsvd-environment" in line)
    assert "RAY_AUTH_MODE=token" in environment
    assert all(command.startswith(". ~/.arsvd-environment && ") for command in starts)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert not [command for command in starts if "0.0.0.0" in command]


@pytest.mark.parametrize("provider", LAUNCHERS)
def test_all_workers_are_started_at_once(provider: str) -> None:
    """A sweep takes the room that there is when it starts: nodes that come on demand would never come."""
    config = launcher(provider)
    worker = config["available_node_types"]["worker"]
    assert worker["min_workers"] == worker["max_workers"] == config["max_workers"]
    # and who starts one is told to wait for them
    readme = (TEMPLATES / provider / "README.md").read_text()
    steps = ("ray up ", "ray status", "arsvd submit ")
    places = [readme.index(step) for step in steps]
    assert places == sorted(places)


def test_ray_makes_no_security_group_on_aws(tmp_path: Path) -> None:
    """Ray's own group lets SSH in from everywhere, whatever rules are added to it."""
    config = launcher("aws")
    assert "security_group" not in config["provider"]
    groups = [kind["node_config"]["SecurityGroupIds"] for kind in config["available_node_types"].values()]
    assert groups == [["FILL_IN_SECURITY_GROUP"]] * 2
    text = (TEMPLATES / "aws" / "cluster.yaml").read_text()
    # one node type without a group is enough for Ray to make one
    open_to_all = re.sub(r"^ *SecurityGroupIds: .*\n", "", text, count=1, flags=re.M)
    for content, status, said in ((text, 0, ""), (open_to_all, 1, "AWS was asked")):
        path = tmp_path / "cluster.yaml"
        path.write_text(content)
        done = subprocess.run(
            [sys.executable, "-c", GROUPS, str(path)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stderr[-2000:]
        assert said in done.stderr


def test_kuberay_takes_the_manifests() -> None:
    (cluster,) = documents("kuberay/raycluster.yaml")
    jsonschema.validate(cluster, schema.RAY_CLUSTER)
    job, policy = documents("kuberay/rayjob.yaml")
    jsonschema.validate(job, schema.RAY_JOB)
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert cluster["spec"]["rayVersion"] == job["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    # the job's dashboard cannot be on loopback; a policy closes every port of its pods but to those named
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    spec = job["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert chosen <= group["template"]["metadata"]["labels"].items()
    assert all("from" in rule for rule in policy["spec"]["ingress"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("authOptions",), None),
        (("authOptions", "mode"), "disabled"),
        (("rayVersion",), None),
        (("headGroupSpec", "template", "spec", "containers", 0, "image"), None),
        (("headGroupSpec", "template", "spec", "securityContext", "runAsNonRoot"), False),
        (("headGroupSpec", "serviceType"), "LoadBalancer"),
        (("workerGroupSpecs", 0, "groupname"), "workers"),
        (("workerGroupSpecs", 0, "minReplicas"), "1"),
    ],
)
def test_the_schema_refuses_a_spoilt_manifest(path: tuple[Any, ...], value: Any) -> None:
    (cluster,) = documents("kuberay/raycluster.yaml")
    spoilt: Any = copy.deepcopy(cluster)
    place = spoilt["spec"]
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, schema.RAY_CLUSTER)


def test_the_slurm_script_is_sound() -> None:
    script = TEMPLATES / "slurm" / "sweep.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is not None:
        found = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout
    text = script.read_text()
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if "ray start" in line]
    secured = next(number for number, line in enumerate(lines) if "RAY_AUTH_MODE=token" in line)
    assert len(starts) == 2
    assert secured < min(starts)
    assert "umask 077" in text
    assert "--include-dashboard=false" in text
    # the driver must hear the signal that comes before the end
    drivers = [line.strip() for line in lines if "arsvd resume" in line or "arsvd sweep" in line]
    assert len(drivers) == 2
    assert all(line.startswith("env --default-signal=INT arsvd ") for line in drivers)
    # nothing after the first command is a directive, so all of them count
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert len(directives) >= 5
    assert max(directives) < first


def test_the_image_is_pinned_unprivileged_and_holds_no_secret() -> None:
    lines = (TEMPLATES / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [step[0] for step in steps].count("FROM") == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-bookworm", steps[0][1])
    users = [rest for word, rest in steps if word == "USER"]
    assert users == ["ray"]
    after = [word for word, _ in steps[[word for word, _ in steps].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after
    environment = " ".join(rest for word, rest in steps if word in ("ENV", "ARG"))
    assert "RAY_AUTH_MODE=token" in environment
    assert not re.search(r"PASSWORD|SECRET|_KEY|RAY_AUTH_TOKEN", environment)
    copied = [name for word, rest in steps if word == "COPY" for name in rest.split()[:-1]]
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    # whatever the installed command imports is in the image
    assert {"arsvd", "sweeps", "cluster", "mlflow_server", "constraints.txt"} <= set(copied)


def test_every_place_to_fill_in_is_explained() -> None:
    folders = [path for path in TEMPLATES.iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {"aws", "gcp", "kuberay", "slurm", "docker"}
    for folder in folders:
        readme = (folder / "README.md").read_text()
        for path in folder.iterdir():
            for name in set(re.findall(r"FILL_IN_[A-Z_]+[A-Z]", path.read_text())):
                assert f"`{name}`" in readme, (path, name)
        assert f"]({folder.name}/README.md)" in (TEMPLATES / "README.md").read_text()
