"""A headless browser on the web interface of a finished sweep of digits."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OVERRIDES = (
    "search.trials=4",
    "training.epochs=4",
    "model.hidden={choice: [[12], [16, 8]]}",
    "compression.finetune_epochs=1",
    "compression.energy.points=12",
    "select.max_drop=0.05",
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """What a sweep says at its end, and the link that `arsvd ui` prints thereafter."""
    _chromium()
    home = tmp_path_factory.mktemp("browsing") / "home"
    arsvd = str(Path(sys.executable).with_name("arsvd"))
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    variables["ARSVD_HOME"] = str(home)
    done = subprocess.run(
        [arsvd, "sweep", "digits", *OVERRIDES],
        env=variables,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = home.parent / "ui.log"
    with said.open("wb") as log:
        server = subprocess.Popen(
            [arsvd, "ui", "--port", "0"], env=variables, cwd=home.parent, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 180
        while "MLflow is at " not in said.read_text():
            assert server.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        yield done.stdout, said.read_text().split("MLflow is at ")[1].split(" ")[0]
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)


@pytest.fixture(scope="module")
def interface(printed: tuple[str, str]) -> str:
    """The address of `arsvd ui` on a home with one finished sweep."""
    return printed[1].split("/#")[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    chromium, driver = _chromium()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests may run as root, in a container without user namespaces
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1600,1100",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # nothing between the driver and this machine's browser
    os.environ["no_proxy"] = "*"
    running = webdriver.Chrome(options=options, service=Service(driver))
    running.set_page_load_timeout(180)
    try:
        yield running
    finally:
        running.quit()


@pytest.fixture(scope="module")
def screenshot(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Keep what is seen, in ARSVD_SCREENSHOTS or a folder of pytest's."""
    folder = Path(os.environ.get("ARSVD_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str) -> Path:
        path = folder / f"{name}.png"
        assert browser.save_screenshot(str(path))  # type: ignore[attr-defined]
        return path

    return keep


def _chromium() -> tuple[str, str]:
    pytest.importorskip("selenium", reason="the browser is driven by the package selenium")
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in found:
        pytest.skip(
            "no chromium and chromedriver on PATH (on Debian: apt-get install chromium chromium-driver)"
        )
    return str(found[0]), str(found[1])
