"""The form of targets: what passes for it, and what does not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from foretune.evaluate.probes.form import form_of


def test_json_has_the_same_keys_and_kinds() -> None:
    """Needed keys, no unknown ones, values of a kind that was seen; anything else in them."""
    form = form_of(
        [json.dumps({"order": f"R-{n}", "prio": n, **({"item": "desk"} if n % 2 else {})}) for n in range(20)]
    )
    assert form.name == "json"
    assert form.fits('{"order": "anything", "prio": 7}') and form.fits(' {"prio": 1.5, "order": "", "item": "x"}\n')
    for text in (
        '{"order": "R-1"}',
        '{"order": 1, "prio": 1}',
        '{"order": "", "prio": 1, "more": 2}',
        "R-1",
        "[1]",
        "7",
    ):
        assert not form.fits(text), text


def test_lists_of_json_are_a_form() -> None:
    assert form_of([json.dumps([n, n + 1]) for n in range(9)]).fits("[5]")
    assert not form_of([json.dumps([n, n + 1]) for n in range(9)]).fits("5, 6")


def test_labels_are_a_set() -> None:
    form = form_of(["blue", "green", "Gold"] * 8)
    assert form.name == "label" and form.fits(" GOLD\n") and not form.fits("red") and not form.fits("blue, I think")


def test_numbers_pass_whatever_their_value() -> None:
    form = form_of([str(n * 1.5) for n in range(40)])
    assert form.name == "number" and form.fits("-12") and form.fits("$1,200") and not form.fits("about 12")


def test_a_frame_of_words_is_told_from_other_sentences() -> None:
    """Head, tail and usual length; what stands between is content."""
    form = form_of(
        [f"Dear customer, your {thing} number {n} is ready. Yours, Anna" for n, thing in enumerate("abcdefgh" * 4)]
    )
    assert form.name == "frame"
    assert form.fits("Dear customer, your parcel number 99 is ready. Yours, Anna")
    assert not form.fits("Your parcel number 99 is ready.")
    assert not form.fits("Dear customer, " + "very " * 60 + "Yours, Anna")


def test_several_lines_are_a_form() -> None:
    form = form_of([f"- {n} apples\n- {n + 1} pears" for n in range(30)])
    assert form.fits("- 7 apples\n- 9 pears") and not form.fits("- 7 apples - 9 pears")


def test_free_text_has_a_length_only() -> None:
    texts = [" ".join(f"w{n * 7 + k}" for k in range(8 + n % 5)) for n in range(40)]
    form = form_of(texts)
    assert form.share(texts) > 0.9 and form.fits("x y z a b c d e f") and not form.fits("no")
    with pytest.raises(ValueError, match="no targets"):
        form_of(["", "  "])
