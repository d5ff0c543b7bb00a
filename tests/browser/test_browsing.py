"""What a person sees who opens the MLflow web interface on a finished sweep."""

import json
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

By = pytest.importorskip("selenium.webdriver.common.by", reason="needs selenium").By
WebDriverException = pytest.importorskip("selenium.common.exceptions").WebDriverException
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

pytestmark = pytest.mark.slow
WAIT_SECONDS = 120
KIND = "workflowType=machine_learning"
# in the way of a person: windows over the page, the assistant and its button
OBSTACLES = "[role='dialog'], [data-assistant-ui], [role='alert']"
UNWANTED = ("MLflow Assistant", "switched off", "Observability", "telemetry", "Start Demo")
COLUMNS = ["Run Name", "Created", "hypervolume", "best_params", "best_accuracy", "Description"]


@pytest.fixture(scope="module")
def client(interface: str) -> MlflowClient:
    return MlflowClient(interface)


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("arsvd-digits")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@pytest.fixture(scope="module")
def sweep(runs: list[Run]) -> Run:
    (found,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return found


@pytest.fixture(scope="module")
def look(browser, interface: str) -> Callable[..., str]:
    """Open a page and wait until it shows every one of some texts; returns all its text."""

    def open_page(path: str, *texts: str) -> str:
        browser.get("about:blank")  # else only the fragment changes, and the old page may still show
        browser.get(f"{interface}/#{path}")
        return wait_for(browser, *texts)

    return open_page


def wait_for(browser, *texts: str) -> str:
    def shown(_: object) -> bool:
        body = browser.find_element(By.TAG_NAME, "body").text
        return all(text in body for text in texts)

    try:
        WebDriverWait(browser, WAIT_SECONDS, ignored_exceptions=[WebDriverException]).until(shown)
    except WebDriverException as error:
        body = browser.find_element(By.TAG_NAME, "body").text
        missing = [text for text in texts if text not in body]
        raise AssertionError(f"the page does not show {missing}; it shows:\n{body}") from error
    return str(browser.find_element(By.TAG_NAME, "body").text)


def click(browser, text: str) -> None:
    """Click on the first element that shows exactly a text, once there is one."""

    def done(_: object) -> bool:
        for element in browser.find_elements(By.XPATH, f"//*[normalize-space(text())='{text}']"):
            if element.is_displayed():
                element.click()
                return True
        return False

    WebDriverWait(browser, WAIT_SECONDS, ignored_exceptions=[WebDriverException]).until(done)


def follow(browser, page: str) -> None:
    """Click on the first link whose address begins so, once there is one."""

    def done(_: object) -> bool:
        browser.find_element(By.CSS_SELECTOR, f"a[href^='#{page}']").click()
        return True

    WebDriverWait(browser, WAIT_SECONDS, ignored_exceptions=[WebDriverException]).until(done)


def check_clear(browser) -> None:
    """Nothing is in the way, nor comes when the page's last requests are answered."""
    for _ in range(6):
        body = browser.find_element(By.TAG_NAME, "body").text
        found = browser.find_elements(By.CSS_SELECTOR, OBSTACLES)
        in_the_way = [one.text for one in found if one.is_displayed()]
        assert (in_the_way, [text for text in UNWANTED if text in body]) == ([], [])
        time.sleep(0.5)


def test_the_first_page_shows_the_sweep_and_nothing_in_the_way(
    printed: tuple[str, str], browser, sweep: Run, screenshot: Callable
) -> None:
    """Runs first: the browser has seen no other page of MLflow's."""
    browser.get(printed[1])
    best = f"{sweep.data.metrics['best_params']:.0f}"
    wait_for(browser, "arsvd-digits", sweep.info.run_name, best, "members trained on digits")
    check_clear(browser)
    cells = browser.find_elements(By.CSS_SELECTOR, ".ag-header-cell[col-id]")
    titles = [title for _, title in sorted((cell.rect["x"], cell.text.strip()) for cell in cells) if title]
    assert titles[: len(COLUMNS)] == COLUMNS
    screenshot("0-first-page")


def test_the_same_pages_are_reached_by_clicks(browser, interface: str, screenshot: Callable) -> None:
    browser.get("about:blank")
    browser.get(interface)
    wait_for(browser, "Recent Experiments", "arsvd-digits")
    check_clear(browser)
    follow(browser, "/experiments")
    wait_for(browser, "arsvd-digits", "Time created")
    click(browser, "arsvd-digits")
    wait_for(browser, "matching runs", "best_accuracy")
    check_clear(browser)
    follow(browser, "/models")
    wait_for(browser, "Registered Models", "arsvd-digits")
    check_clear(browser)
    follow(browser, "/models/arsvd-digits")
    wait_for(browser, "Networks for digits, compressed by adaptive-rank SVD")
    check_clear(browser)
    screenshot("0-model-by-clicks")


def test_a_sweep_ends_with_a_link_to_its_run(
    printed: tuple[str, str], browser, interface: str, sweep: Run
) -> None:
    assert f"\nbrowse   arsvd ui {sweep.data.tags['arsvd.sweep']}\n" in printed[0]
    (link,) = re.findall(r"^page     http://127\.0\.0\.1:5000(\S+) ", printed[0], re.MULTILINE)
    browser.get("about:blank")
    browser.get(f"{interface}{link}")
    wait_for(browser, sweep.info.run_name, "members trained on digits", "Child runs")
    check_clear(browser)


def test_a_persons_choice_takes_precedence(browser, interface: str) -> None:
    browser.get("about:blank")
    browser.get(interface)
    for chosen, shown in (("GenAI", "Prompts"), ("Model training", "Model registry")):
        click(browser, chosen)
        wait_for(browser, "Recent Experiments", shown)
        browser.refresh()
        wait_for(browser, "Recent Experiments", shown)


def test_the_experiment_explains_itself(look: Callable, screenshot: Callable) -> None:
    look(f"/experiments?{KIND}", "arsvd-digits", "Compression sweeps o")
    screenshot("1-experiments")


def test_the_sweep_is_listed_with_its_members_inside(
    look: Callable, browser, runs: list[Run], sweep: Run, screenshot: Callable
) -> None:
    text = look(
        f"/experiments/{sweep.info.experiment_id}/runs?{KIND}",
        "Compression sweeps on digits",
        'load_best("digits")',
        f"{len(runs)} matching runs",
    )
    members = [run.info.run_name for run in runs if run.info.run_id != sweep.info.run_id]
    assert members
    assert not any(name in text for name in members)  # one row a sweep, until it is unfolded
    screenshot("2-runs")
    plus = "//a[contains(., 'sweep digits')]/ancestor::*[@role='gridcell'][1]//button"
    WebDriverWait(browser, WAIT_SECONDS, ignored_exceptions=[WebDriverException]).until(
        lambda _: browser.find_element(By.XPATH, plus).click() or True
    )
    wait_for(browser, *members)
    screenshot("3-members")


def test_the_sweep_describes_what_it_found(
    look: Callable, runs: list[Run], sweep: Run, screenshot: Callable
) -> None:
    members = [run for run in runs if run.info.run_id != sweep.info.run_id]
    look(
        f"/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}?{KIND}",
        f"sweep {sweep.data.tags['arsvd.sweep']}",
        f"{len(members)} members trained on digits",
        "Child runs",
        *(run.info.run_name for run in members),
        "arsvd-digits",
    )
    screenshot("4-sweep")


def test_the_front_is_a_chart(look: Callable, browser, sweep: Run, screenshot: Callable) -> None:
    look(
        f"/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}/model-metrics?{KIND}",
        "Model metrics",
    )
    box = WebDriverWait(browser, WAIT_SECONDS).until(
        lambda _: browser.find_element(By.XPATH, "//input[contains(@placeholder, 'metric charts')]")
    )
    box.send_keys("validation_accuracy")
    chart = (
        "//*[contains(@class, 'js-plotly-plot')]//*[contains(@class, 'scatterlayer')]//*[@class='points']/*"
    )
    points = {
        entry.step
        for entry in MlflowClient(browser.current_url.split("/#")[0]).get_metric_history(
            sweep.info.run_id, "validation_accuracy"
        )
    }
    assert len(points) > 3  # the front's parameter counts
    WebDriverWait(browser, WAIT_SECONDS).until(
        lambda _: len(browser.find_elements(By.XPATH, chart)) >= len(points)
    )
    wait_for(browser, "validation_accuracy")
    screenshot("5-front-chart")


def test_the_report_is_shown_among_the_artifacts(
    look: Callable, browser, sweep: Run, screenshot: Callable
) -> None:
    look(
        f"/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}/artifacts?{KIND}",
        "front.html",
        "front.csv",
        "sweep.yaml",
    )
    click(browser, "front.html")
    frame = WebDriverWait(browser, WAIT_SECONDS).until(lambda _: browser.find_element(By.TAG_NAME, "iframe"))
    browser.switch_to.frame(frame)
    try:
        wait_for(browser, "Models on the front", "Load the best model", "Fronts compared", "load_best")
        drawn = "//*[contains(@class, 'scatterlayer')]//*[@class='points']/*"
        WebDriverWait(browser, WAIT_SECONDS).until(lambda _: len(browser.find_elements(By.XPATH, drawn)) > 3)
    finally:
        browser.switch_to.default_content()
    screenshot("6-report")


def test_the_registered_model_has_its_aliases(
    look: Callable, client: MlflowClient, screenshot: Callable
) -> None:
    look(f"/models?{KIND}", "arsvd-digits")
    screenshot("7-models")
    assert set(client.get_registered_model("arsvd-digits").aliases) == {"best", "smallest", "most-accurate"}
    look(
        f"/models/arsvd-digits?{KIND}",
        "Networks for digits, compressed by adaptive-rank SVD",
        'load_best("digits")',
        "models:/arsvd-digits@best",
        "@ most-accurate",
    )
    screenshot("8-model")
    best = client.get_model_version_by_alias("arsvd-digits", "best")
    look(
        f"/models/arsvd-digits/versions/{best.version}?{KIND}",
        f"Version {best.version}",
        "parameters",
        "@ best",
    )
    screenshot("9-best")


def test_a_member_tells_its_network(
    look: Callable, browser, client: MlflowClient, runs: list[Run], sweep: Run, screenshot: Callable
) -> None:
    member = next(run for run in runs if run.info.run_id != sweep.info.run_id)
    page = f"/experiments/{member.info.experiment_id}/runs/{member.info.run_id}"
    note = member.data.tags["mlflow.note.content"].splitlines()
    look(f"{page}?{KIND}", member.info.run_name, "Parent run", "Finished", note[0], "proposed_accuracy")
    check_clear(browser)
    screenshot("10-member")
    curves = {
        name for name in member.data.metrics if len(client.get_metric_history(member.info.run_id, name)) > 1
    }
    assert {"train_loss", "front_accuracy"} < curves
    # no bar of one number, and no name that nobody can read
    look(f"{page}/model-metrics?{KIND}", "Model metrics", f"({len(curves)})", "front_accuracy")
    cards = browser.find_elements(By.CSS_SELECTOR, "[data-testid='experiment-view-compare-runs-card'] h4")
    titles = {card.text for card in cards} - {""}
    assert titles
    assert titles <= curves
    screenshot("11-member-charts")


def test_nothing_was_asked_of_another_machine(browser, interface: str, look: Callable) -> None:
    """Runs last: the log holds every request since the browser started."""
    look(f"/experiments?{KIND}", "arsvd-digits")
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
    assert len(asked) > 20
    foreign = {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
    assert foreign == {urlsplit(interface).netloc}
