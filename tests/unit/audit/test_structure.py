"""JSON answers: broken ones by kind of fault, and rows of another shape."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random

import pytest

from foretune.audit.checks.structure import broken_json, json_shapes
from planting import chats, planted, subject_of

OBJECTS = [json.dumps({"name": f"n{n}", "age": n, "tags": ["a"], "note": None if n % 3 else "x"}) for n in range(400)]


def broken(text: str, rng: random.Random) -> str:
    return rng.choice(
        [
            text[:-1],
            text.replace('"', "'"),
            text[:-1] + ",}",
            f"```json\n{text}\n```",
            text.replace(":", "", 1),
            text[: rng.randint(5, len(text) - 1)],
            "Here it is: " + text,
        ]
    )


@pytest.mark.req("R111")
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_planted_broken_json_is_found(rate: float) -> None:
    assert planted(broken_json, OBJECTS, broken, rate) == (1.0, 1.0)


def test_json_inside_a_code_block_is_called_by_name() -> None:
    (finding,) = broken_json(subject_of(chats([*OBJECTS, f"```json\n{OBJECTS[0]}\n```"])))
    assert finding.places == ("d:400",)
    assert finding.evidence[0].startswith("JSON inside a code block")


def test_missing_keys_and_other_types() -> None:
    odd = [json.dumps({"name": "x", "tags": []}), json.dumps({"name": "x", "age": "7", "tags": []})]
    (finding,) = json_shapes(subject_of(chats([*OBJECTS, *odd])))
    assert finding.places == ("d:400", "d:401")
    assert finding.evidence == ("no 'age'; no 'note'", "no 'note'; 'age' is a text, usually a number")


def test_optional_keys_and_nulls_are_fine() -> None:
    assert json_shapes(subject_of(chats(OBJECTS))) == []
    optional = [json.dumps({"name": "x"} | ({"extra": n} if n % 2 else {})) for n in range(50)]
    assert json_shapes(subject_of(chats(optional))) == []


def test_deep_nesting_is_no_crash() -> None:
    deep = "[" * 100_000
    assert broken_json(subject_of(chats([*OBJECTS, deep])))[0].places == ("d:400",)
