import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.rows import rows
from sweeps.report.table import baseline_table, front_table, front_text, network_table

GOLDEN = """\
   params  ratio    MACs  val %  test %   F1 %  ranks                 tau  rule       basis       fixed rank %  weight energy %
    2,000  50.0x   1,990  30.00   31.00  29.00  60-4-dense         0.9800  energy     activation             -                -
   18,000   5.6x  17,990  93.00   92.00  92.00  55-4-dense         0.9800  energy     activation             -                -
*  40,123   2.5x  40,113  97.20   96.90  96.20  62-4-dense         0.9800  recovered  activation         50.00            95.00
   90,000   1.1x  89,990  97.60   97.50  96.60  dense-dense-dense          dense                         90.00            95.00
accuracies and F1 on validation unless marked test; baselines at no more parameters; standard error of the best dense val %:
0.22; * best: the fewest parameters within the allowed drop

front          models  hypervolume  others  difference
sweep               4       0.8000
fixed rank          2       0.4000  0.8000     -0.4000
weight energy       1       0.6000  0.5500     +0.0500
hypervolume: mean, over compression ratios of 1 to
100, of the best accuracy there; others: that of all
that the sweep measured but the baseline's own points

network      params  vs ref  vs dense  val %  test %
reference   100,000    1.0x      0.8x  97.10   97.00
best dense   80,246    1.2x      1.0x  97.60   97.50
best         40,123    2.5x      2.0x  97.20   96.90
vs: how many times fewer parameters than the
reference or the best dense member has
"""  # noqa: E501


def test_the_whole_table(front: Front) -> None:
    assert front_text(front, 140) == GOLDEN


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 110, 120, 140])
def test_lines_stay_whole_and_within_the_width(front: Front, width: int) -> None:
    lines = front_text(front, width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert all(line.isascii() for line in lines)
    for number, (start, point) in enumerate(zip(lines[1:5], front.points, strict=True)):
        assert start.startswith("*" if number == 2 else " ")
        assert f"{point.point.params:,}" in start
        assert f"{100 * point.point.accuracy:.2f}" in start
        assert f"{100 * point.test.accuracy:.2f}" in start


def test_a_front_of_an_older_release_shows_what_it_knows(front: Front) -> None:
    older = replace(
        front,
        dense=None,
        reference=None,
        baselines={name: replace(b, others_hypervolume=None) for name, b in front.baselines.items()},
    )
    lines = [line.split() for line in front_text(older, 140).splitlines()]
    assert ["reference", "100,000", "1.0x", "-", "-", "-"] in lines
    assert ["best", "40,123", "2.5x", "-", "97.20", "96.90"] in lines
    assert ["fixed", "rank", "2", "0.4000", "-", "-"] in lines


def test_a_narrow_table_names_what_it_leaves_out(front: Front) -> None:
    text = " ".join(front_text(front, 80).split())
    assert "not shown at this width: basis, rule" in text
    assert "activation" not in text
    assert "not shown" not in front_text(front, 140)


def test_latency_stands_where_there_is_room_and_is_explained(timed_front: Front) -> None:
    text = front_text(timed_front, 160)
    header, *lines = text.splitlines()
    assert header.split()[-2:] == ["us/256", "speedup"]
    assert [line.split()[-2:] for line in lines[:4]] == [
        ["20", "50.0x"],
        ["180", "5.6x"],
        ["-", "-"],
        ["1,250", "0.8x"],
    ]
    caption = " ".join(text.split())
    assert (
        "us/256: median microseconds for 256 images, speedup: over the best dense model, 256 images "
        "(cpu, 1 thread)"
    ) in caption


def test_latency_is_the_first_to_go_and_its_explanation_with_it(timed_front: Front) -> None:
    narrower = " ".join(front_text(timed_front, 138).split())
    assert "not shown at this width: us/256" in narrower
    assert "us/256: median" not in narrower
    assert "speedup: over the best dense model" in narrower
    narrow = " ".join(front_text(timed_front, 120).split())
    assert "not shown at this width: us/256, speedup" in narrow
    assert "thread" not in narrow


def test_the_caption_states_the_noise_of_the_choice(front: Front) -> None:
    caption = " ".join(front_text(replace(front, confidence=0.95), 120).split())
    assert "standard error of the best dense val %: 0.22" in caption  # sqrt(0.976 * 0.024 / 5000)
    assert "the fewest parameters within the allowed drop at 95% confidence" in caption
    uncounted = front_text(replace(front, validation_images=0), 120)
    assert "standard error" not in uncounted
    assert "confidence" not in uncounted


def test_deep_networks_and_millions_do_not_wrap(front: Front, make_entry: Callable[..., FrontPoint]) -> None:
    deep = make_entry(123_456_789, 0.5, 0.5, ranks=(1_000,) * 12)
    lines = front_text(replace(front, points=(deep,), best=None), 100).splitlines()
    assert "123,456,789" in lines[1]
    assert "1000-1000-1000-1000-1000-..." in lines[1]
    assert lines[2].startswith("accuracies")


def test_before_test_figures_and_before_any_model(front: Front, empty_front: Front) -> None:
    untested = replace(front, points=tuple(replace(point, test=None) for point in front.points), best=None)
    assert "    -  " in front_text(untested, 140).splitlines()[1]
    assert "* best" not in front_text(untested, 140)
    assert "sweep       0       0.0000" in front_text(empty_front, 80)


def test_a_terminal_shows_the_same_cells(front: Front) -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True, record=True)
    console.print(front_table(front, 140))
    console.print(baseline_table(front))
    console.print(network_table(front))
    plain = [line.rstrip() for line in console.export_text(styles=False).splitlines()]
    golden = [line for line in GOLDEN.splitlines() if line]
    assert [line for line in plain if line] == golden


def test_too_narrow_is_refused(front: Front) -> None:
    with pytest.raises(ValueError, match="at least 60 characters, got 40"):
        front_text(front, 40)


def test_baselines_are_taken_at_no_more_parameters(front: Front) -> None:
    listed = rows(front)
    assert [row.rivals["fixed"] for row in listed] == [None, None, 0.5, 0.9]
    assert [row.rivals["weight energy"] for row in listed] == [None, None, 0.95, 0.95]
    assert [row.best for row in listed] == [False, False, True, False]
    for row in listed:
        for name, baseline in front.baselines.items():
            fit = [e.point.accuracy for e in baseline.points if e.point.params <= row.entry.point.params]
            assert row.rivals[name] == (max(fit) if fit else None)
