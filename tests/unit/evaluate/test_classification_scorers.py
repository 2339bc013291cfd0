"""Scores of labels: nothing is guessed, everything is counted."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.evaluate.scorers.classification import Labels, class_report, label_match, macro_f1_of_sums

SENTIMENT = Labels.of(["negative", "neutral", "positive"])


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("positive", "positive"),
        ("  Positive\n", "positive"),
        ("positive.", None),
        ("The label is positive", None),
        ("positive negative", None),
        ("", None),
    ],
)
def test_labels_are_parsed_exactly_or_not_at_all(answer, label):
    assert SENTIMENT.parse(answer) == label


def test_labels_that_differ_by_case_only():
    labels = Labels.of(["US", "us", "them"])
    assert labels.parse("US") == "US"
    assert labels.parse("us") == "us"
    assert labels.parse("Us") is None  # could be either
    assert labels.parse("THEM") == "them"


def test_label_match():
    assert label_match("Positive", "positive", SENTIMENT) == 1
    assert label_match("neutral", "positive", SENTIMENT) == 0
    assert label_match("no idea", "positive", SENTIMENT) == 0


@pytest.mark.req("R268")
def test_report_by_hand():
    targets = ["positive"] * 4 + ["negative"] * 4 + ["neutral"] * 2
    answers = ["positive", "positive", "positive", "negative", "negative", "negative", "positive", "??", "neutral", "?"]
    report = class_report(answers, targets, SENTIMENT)
    assert report.counts.tolist() == [[2, 0, 1, 1], [0, 1, 0, 1], [1, 0, 3, 0]]
    assert report.accuracy == pytest.approx(6 / 10)
    negative, neutral, positive = report.classes
    assert negative[1:] == pytest.approx((2 / 3, 2 / 4, 4 / 7, 4))
    assert neutral[1:] == pytest.approx((1, 1 / 2, 2 / 3, 2))
    assert positive[1:] == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert report.macro_f1 == pytest.approx((4 / 7 + 2 / 3 + 3 / 4) / 3)
    assert report.macro_precision == pytest.approx((2 / 3 + 1 + 3 / 4) / 3)
    assert report.macro_recall == pytest.approx((1 / 2 + 1 / 2 + 3 / 4) / 3)
    assert report.num_invalid == 2


def test_labels_without_support_do_not_count_in_the_mean():
    report = class_report(["negative", "neutral"], ["negative", "negative"], SENTIMENT)
    assert report.macro_f1 == pytest.approx(2 / 3)
    assert report.macro_recall == pytest.approx(1 / 2)
    assert [score.support for score in report.classes] == [2, 0, 0]


def test_a_target_that_is_no_label_names_its_row():
    with pytest.raises(ScoreError, match="row 1: the target 'mixed' is no label, expected one of negative, neutral"):
        class_report(["neutral", "neutral"], ["neutral", "mixed"], SENTIMENT)


def test_no_labels():
    with pytest.raises(ScoreError, match="no labels"):
        Labels.of([])


def test_macro_f1_of_an_empty_resample_is_a_number():
    assert macro_f1_of_sums(np.zeros((1, 9))).tolist() == [0.0]
