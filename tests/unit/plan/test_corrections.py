"""Corrections: each shows what is told and what is right, and the figures agree with the calculators."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from foretune.plan.corrections import correction_text, read_corrections
from foretune.plan.cost import batch_speed_up, payback, training_cost_usd


@pytest.mark.parametrize("number", range(1, 21))
def test_every_correction_has_both_sides(number: int) -> None:
    row = read_corrections()[f"S-{number:02}"]
    assert row.requirement == f"R{413 + number}"
    assert row.claim != row.right and row.why and row.source and row.date
    text = correction_text(row.id)
    assert f"often told: {row.claim}" in text and f"right: {row.right}" in text


@pytest.mark.req("R416")
def test_payback_shows_both() -> None:
    row = read_corrections()["S-03"]
    assert "one month" in row.claim
    shown = payback(40, 40 * 100, 1200)
    assert f"{shown.training_only:.3f}" in row.right and f"{shown.with_labour:.2f}" in row.right
    assert payback(40, 40 * 29, 1200).with_labour == pytest.approx(1.0)


@pytest.mark.req("R417")
def test_epochs_show_both() -> None:
    row = read_corrections()["S-04"]
    assert f"${training_cost_usd(10_000, 500, 1, 0.008):.0f}" in row.claim
    assert f"${training_cost_usd(10_000, 500, 3, 0.008):.0f}" in row.right


@pytest.mark.req("R418")
def test_batch_speed_shows_both() -> None:
    row = read_corrections()["S-05"]
    assert "8 times" in row.claim and f"{batch_speed_up(8, 1.2):.2f}" in row.right


@pytest.mark.req("R423")
@pytest.mark.req("R424")
def test_adapter_sizes_show_both() -> None:
    hidden, inner, layers, rank = 4096, 11_008, 32, 16  # Llama 2 7B
    query_value = layers * rank * 2 * (hidden + hidden)
    linear = layers * rank * (4 * (hidden + hidden) + 3 * (hidden + inner))
    assert (query_value, linear) == (8_388_608, 39_976_960)
    assert f"{query_value / 6.738e9:.3%}".replace("%", " %") == "0.124 %"
    assert "0.124 %" in read_corrections()["S-10"].right and "0.5 %" in read_corrections()["S-10"].claim
    assert f"{linear / query_value:.2f} times" in read_corrections()["S-11"].right


@pytest.mark.req("R425")
def test_palm_has_540_billion() -> None:
    assert read_corrections()["S-12"].right == "PaLM 540B"


@pytest.mark.req("R419")
@pytest.mark.req("R420")
def test_cards_show_both() -> None:
    assert "24 GB" in read_corrections()["S-06"].right and "T4 has 16 GB" in read_corrections()["S-06"].right
    assert "18 GB" in read_corrections()["S-07"].claim and read_corrections()["S-07"].right == "24 GB"


def test_unknown_ids_are_errors() -> None:
    with pytest.raises(KeyError):
        correction_text("S-99")
