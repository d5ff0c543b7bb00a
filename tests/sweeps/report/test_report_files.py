import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from sweeps.ledger.records import Front
from sweeps.report import write_report
from sweeps.report.export import COLUMNS
from sweeps.report.figure import write_figure
from sweeps.report.page import write_page
from sweeps.report.scale import standard_error, window

CONFIGURATION = {"dataset.name": "mnist", "model.hidden": "[512, 256] | [300, 100]", "search.trials": 16}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_is_four_files(front: Front, tmp_path: Path) -> None:
    for _ in range(2):  # the second replaces the first
        paths = write_report(tmp_path, front, "mnist-1", "mnist", CONFIGURATION)
    assert [path.name for path in paths] == ["front.csv", "baselines.csv", "front.png", "front.html"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_csv_holds_every_number_of_every_point(front: Front, tmp_path: Path) -> None:
    table, baselines, *_ = write_report(tmp_path, front, "mnist-1", "mnist", CONFIGURATION)
    listed = read(table)
    assert tuple(listed[0]) == COLUMNS
    assert len(listed) == 4
    for row, entry in zip(listed, front.points, strict=True):
        assert row["front"] == "sweep"
        assert row["member"] == entry.key
        assert int(row["params"]) == entry.point.params
        assert float(row["ratio"]) == pytest.approx(100_000 / entry.point.params)
        assert float(row["mac_ratio"]) == pytest.approx(99_000 / entry.point.macs)
        assert float(row["validation_accuracy"]) == entry.point.accuracy
        assert float(row["test_macro_f1"]) == entry.test.macro_f1
    assert [row["best"] for row in listed] == ["0", "0", "1", "0"]
    assert listed[0]["ranks"] == "60-4-dense"
    assert (listed[3]["basis"], listed[3]["threshold"]) == ("", "")
    rivals = read(baselines)
    assert [row["front"] for row in rivals] == ["fixed rank", "fixed rank", "weight energy"]
    assert {row["test_accuracy"] for row in rivals} == {""}


def test_csv_holds_latency_and_assured_accuracy(timed_front: Front, tmp_path: Path) -> None:
    table, baselines, *_ = write_report(tmp_path, timed_front, "mnist-1", "mnist", CONFIGURATION)
    first, _, untimed, _ = read(table)
    assert {name: first[name] for name in first if "batch256" in name} == {
        "latency_batch256_us": "20.0",
        "latency_batch256_p95_us": "30.0",
        "dense_batch256_us": "1000.0",
        "dense_batch256_p95_us": "1250.0",
        "speedup_batch256": "50.0",
    }
    assert (first["latency_batch1_us"], first["speedup_batch1"]) == ("2.0", "25.0")
    assert (first["latency_device"], first["latency_threads"]) == ("cpu", "1")
    assert (first["assured_accuracy"], untimed["assured_accuracy"]) == ("0.296", "0.968")
    timings = [name for name in COLUMNS if "batch" in name or name.startswith("latency")]
    assert len(timings) == 12
    for row in (untimed, *read(baselines)):
        assert {row[name] for name in timings} == {""}


def test_json_is_read_back(front: Front, timed_front: Front) -> None:
    for written in (front, timed_front):
        text = json.dumps(written.to_dict(), allow_nan=False)
        assert Front.from_dict(json.loads(text)) == written


@pytest.mark.parametrize("case", ["whole", "no baselines", "no test figures", "one point", "empty"])
def test_figures_are_drawn(case: str, front: Front, empty_front: Front, tmp_path: Path) -> None:
    untested = tuple(replace(point, test=None) for point in front.points)
    drawn = {
        "whole": front,
        "no baselines": replace(front, baselines={}),
        "no test figures": replace(front, points=untested, best=untested[2], validation_images=0),
        "one point": replace(front, points=front.points[:1], best=front.points[0]),
        "empty": empty_front,
    }[case]
    write_figure(drawn, tmp_path / "front.png", "mnist: $sweep_1$")
    image = matplotlib.image.imread(tmp_path / "front.png")
    assert image.shape[:2] == (700, 1200)
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_a_page_of_an_empty_front_is_written(empty_front: Front, tmp_path: Path) -> None:
    write_page(empty_front, tmp_path / "front.html", dataset="mnist", heading="none", configuration={})
    page = _Page()
    page.feed((tmp_path / "front.html").read_text(encoding="utf-8"))
    assert "models on the front0" in page.text


def test_the_window_keeps_what_matters(front: Front) -> None:
    drawn = window(front)
    assert 0.976 - 0.15 - 0.02 < drawn.low < 0.976 - 0.15
    assert 0.976 < drawn.high <= 1.0
    assert drawn.hidden == 2  # the point at 30 % and a baseline's at 50 %
    assert 10_000 < drawn.left < 18_000
    assert drawn.right > front.reference_params
    alone = window(replace(front, points=front.points[:1], baselines={}))
    assert alone.low < 0.30
    assert alone.hidden == 0


def test_the_standard_error_is_that_of_a_share(front: Front) -> None:
    assert standard_error(front) == pytest.approx((0.976 * 0.024 / 5_000) ** 0.5)
    assert standard_error(replace(front, validation_images=0)) is None


class _Page(HTMLParser):
    """Collects what a browser would fetch, and the text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside or self._inside[-1] not in ("script", "style"):
            self.text += data


def test_the_page_stands_alone(front: Front, tmp_path: Path) -> None:
    path = write_report(tmp_path, front, "mnist-1", "mnist", CONFIGURATION)[3]
    source = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(source)
    assert page.fetched == []
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    assert len(source) < 10_000_000
    assert '"showSendToCloud": false' in source
    for text in ("mnist: sweep mnist-1", 'load_best("mnist")', "models:/arsvd-mnist@best", "40,123"):
        assert text in page.text
    for text in ("97.20", "96.90", "62-4-dense", "recovered 0.9800", "[512, 256] | [300, 100]", "-0.4000"):
        assert text in page.text
    hovers = re.findall(r"member \d, recovered 0\.9800, activation basis", source)
    assert len(hovers) >= 3  # the table, the validation point, the test point


def test_the_page_shows_latency_and_assured_accuracy(
    front: Front, timed_front: Front, tmp_path: Path
) -> None:
    path = tmp_path / "front.html"
    sources, texts = [], []
    for shown in (front, timed_front):
        write_page(shown, path, dataset="mnist", heading="mnist", configuration={})
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        sources.append(path.read_text(encoding="utf-8"))
        texts.append(" ".join(page.text.split()))
    for text in (
        "us for 256 images",
        "1,2500.8x",  # neighbouring cells
        "Times are measured beside the best dense network in one process (cpu, 1 thread), 40 calls",
        "holds at 95% confidence",
        "96.80",
    ):
        assert text in texts[1]
        assert text not in texts[0]
    for hover in ("180 us at batch 256 (95 % within 270), speedup 5.6x over dense", "assured 96.80%"):
        assert hover in sources[1]
        assert hover not in sources[0]


def test_nothing_in_the_page_is_taken_for_markup(front: Front, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    point = replace(front.points[0].point, family=evil)
    hostile = replace(front, points=(replace(front.points[0], point=point),), best=None, baselines={})
    hostile = replace(hostile, baselines={evil: front.baselines["fixed"]})
    path = tmp_path / "front.html"
    write_page(hostile, path, dataset=evil, heading=evil, configuration={evil: evil})
    source = path.read_text(encoding="utf-8")
    assert evil not in source
    page = _Page()
    page.feed(source)
    assert "img" not in page.tags
    assert page.text.count(evil) >= 5
