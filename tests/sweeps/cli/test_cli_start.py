"""What a command loads before it does anything: nobody waits seconds for `--help`."""

import subprocess
import sys

HEAVY = ("torch", "mlflow", "ray", "optuna", "numpy")


def test_the_command_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom sweeps.cli import main\n"
        "main(['sweep', '--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_installed_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.cli", "--version"], capture_output=True, text=True, check=True
    )
    import arsvd

    assert done.stdout.strip() == f"arsvd, version {arsvd.__version__}"
