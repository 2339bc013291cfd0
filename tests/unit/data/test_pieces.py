"""Distance by pieces of words: misspellings stay near, unknown words are far, a text is not its own neighbour."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from foretune.data.embed.pieces import PieceIndex

KNOWN = [f"my {kind} card was {what} at the {place}" for kind in ("old", "new") for what in ("declined", "kept")
         for place in ("shop", "bank", "station")]  # fmt: skip


def test_known_misspelt_and_unknown_texts_in_this_order() -> None:
    index = PieceIndex(KNOWN)
    same, misspelt, other = index.nearest([KNOWN[0], "my old crad was declind at the shop", "which whales sing"])
    assert same == 1.0
    assert 1.0 > misspelt > 0.5 > other


def test_a_text_is_left_out_only_where_it_stands() -> None:
    index = PieceIndex([*KNOWN, "which whales sing"])
    assert index.nearest([*KNOWN, "which whales sing"], leave_out_self=True)[-1] < 0.3
    assert index.nearest(["which whales sing"])[0] == 1.0


def test_copies_are_found_even_when_a_text_is_left_out() -> None:
    texts = ["which whales sing", "which whales sing", *KNOWN]
    assert PieceIndex(texts).nearest(texts, leave_out_self=True)[:2] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("known", [[], [""], ["!?"], ["a"]])
def test_little_or_nothing_known(known: list[str]) -> None:
    found = PieceIndex(known).nearest(["some text", ""])
    assert found.shape == (2,)
    assert np.isfinite(found).all()
