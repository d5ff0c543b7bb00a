"""What is said of the best model: its loss, on which images, how sure, and what to doubt."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.assurance import assurance


def test_the_loss_is_told_with_its_images_and_its_bound(front: Front) -> None:
    assert assurance(front, 0.005) == [
        "against the best dense member it loses 0.40 points on 5,000 validation images "
        "and loses 0.60 points on 10,000 test images; taken as measured (select.confidence is null)"
    ]
    assert front.best is not None
    sure = replace(front.best, assured=0.9712)
    points = tuple(sure if entry is front.best else entry for entry in front.points)
    shown = replace(front, points=points, best=sure, confidence=0.95)
    assert assurance(replace(shown, confirmation_images=4_000), 0.005)[0].endswith(
        "; at most 0.48 points at 95% confidence (4,000 confirmation images)"
    )
    assert assurance(shown, 0.005)[0].endswith("(5,000 validation images)")


def test_a_front_of_an_older_release_tells_what_it_knows(front: Front) -> None:
    (line,) = assurance(replace(front, dense=None, test_images=0), 0.005)
    assert line.startswith("against the best dense member it loses 0.40 points on 5,000 validation images;")


def test_a_gain_is_not_shown_as_a_negative_loss(front: Front) -> None:
    (line,) = assurance(replace(front, dense_accuracy=0.9, dense=None), 0.005)
    assert re.match(
        r"against the best dense member it gains \d\.\d\d points on 5,000 validation images;", line
    )


# name: validation accuracy and images, test accuracy and images, whether it is to be doubted
DOUBTS: dict[str, tuple[tuple[float, int], tuple[float, int], bool]] = {
    "62.5 against 51.7 % of few images": ((0.625, 120), (0.517, 300), True),
    "the same of very few": ((0.625, 40), (0.517, 100), False),
    "half a point of many": ((0.98, 5_000), (0.975, 10_000), False),
    "a point of many": ((0.98, 5_000), (0.97, 10_000), True),
    "better on test": ((0.90, 500), (0.97, 1_000), True),
    "all right on both": ((1.0, 50), (1.0, 100), False),
}


@pytest.mark.parametrize(("validation", "test", "doubted"), DOUBTS.values(), ids=DOUBTS)
def test_two_accuracies_that_chance_does_not_explain_are_doubted(
    front: Front,
    make_entry: Callable[..., FrontPoint],
    validation: tuple[float, int],
    test: tuple[float, int],
    doubted: bool,
) -> None:
    entry = make_entry(1_000, validation[0], test[0])
    shown = replace(front, points=(entry,), best=entry, validation_images=validation[1], test_images=test[1])
    assert (len(assurance(shown, 0.005)) == 2) == doubted
    assert not doubted or assurance(shown, 0.005)[1].startswith("warning: its validation and test")


def test_advice_is_given_where_no_model_is_sure(front: Front) -> None:
    none = replace(front, best=None)
    assert assurance(none, 0.005) == []
    assert "hold some out with dataset.confirmation" in assurance(replace(none, confidence=0.95), 0.005)[0]
    few = replace(none, confidence=0.95, confirmation_images=60)
    assert assurance(few, 0.005) == [
        "60 confirmation images cannot show a drop below 5.79 points: "
        "hold out more with dataset.confirmation, or allow more with select.max_drop"
    ]
    assert assurance(replace(few, confirmation_images=5_000), 0.005) == []  # they could, the models do not
