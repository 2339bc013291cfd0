"""Scores of JSON answers: four separate rates, and the inferred schema."""

# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from foretune.errors import ScoreError
from foretune.evaluate.scorers import compare_scores, retries_avoided, score_samples
from foretune.evaluate.scorers.structured import (
    compiled_schema,
    field_f1,
    infer_schema,
    json_match,
    json_valid,
    json_valid_unfenced,
    schema_valid,
)

FENCED = '```json\n{"a": 1}\n```'
TICKET = '{"product": "lamp", "days": 3, "tags": ["late"]}'


@pytest.mark.parametrize(
    ("answer", "valid", "unfenced"),
    [
        ('{"a": 1}', 1, 1),
        (" [1, 2]\n", 1, 1),
        ("3", 1, 1),
        (FENCED, 0, 1),
        ("```\n[]\n```\n", 0, 1),
        ("Here you are:\n" + FENCED, 0, 0),
        ('{"a": 1} done', 0, 0),
        ("{'a': 1}", 0, 0),
        ('{"a": NaN}', 0, 0),
        ("", 0, 0),
        ("[" * 100_000, 0, 0),
        ("1" * 10_000, 0, 0),
    ],
)
def test_validity_without_repair(answer, valid, unfenced):
    assert json_valid(answer, "") == valid
    assert json_valid_unfenced(answer, "") == unfenced


@pytest.mark.parametrize(
    ("answer", "target", "score"),
    [
        ('{"b": 2, "a": 1}', '{"a": 1, "b": 2.0}', 1),
        ('{"a": 1}', '{"a": true}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ("[1, 2]", "[2, 1]", 0),
        ('{"0": 1}', "[1]", 0),
        ("{}", "[]", 0),
        ("{}", "{}", 1),
        ('{"a": {}}', '{"a": null}', 0),
        ("null", "null", 1),
        ('{"a": []}', "{}", 0),
        (FENCED, '{"a": 1}', 0),
        ("not JSON", '{"a": 1}', 0),
    ],
)
def test_json_match(answer, target, score):
    assert json_match(answer, target) == score
    assert (field_f1(answer, target) == 1) == bool(score)


def test_field_f1_by_hand():
    assert field_f1('{"product": "lamp", "days": 4}', TICKET) == pytest.approx(2 * 1 / (2 + 3))
    assert field_f1('{"product": "lamp", "days": 3, "tags": ["late", "cold"]}', TICKET) == pytest.approx(
        2 * 3 / (4 + 3)
    )
    assert field_f1('{"a": {"b": [1, {"c": 2}]}}', '{"a": {"b": [1, {"c": 3}]}}') == pytest.approx(1 / 2)


def test_deep_answers_do_not_overflow():
    deep = "[" * 900 + "]" * 900
    assert field_f1(deep, "[]") == 0
    assert json_match(deep, deep) == 1
    assert schema_valid(deep, "", compiled_schema({"type": "array", "items": {"$ref": "#"}})) in (0, 1)


def test_target_must_be_json():
    with pytest.raises(ScoreError, match="json_match fails on row 1: the target 'oops' is not JSON"):
        score_samples(["json_match"], ["{}", "{}"], ["{}", "oops"])


def test_inferred_schema():
    schema = infer_schema([TICKET, '{"product": null, "days": 2.5, "tags": [], "note": "x"}', "no JSON"])
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "product": {"type": ["null", "string"]},
            "days": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "note": {"type": "string"},
        },
        "required": ["product", "days", "tags"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (TICKET, 1),
        ('{"product": "lamp", "days": 3}', 0),
        ('{"product": "lamp", "days": "3", "tags": []}', 0),
        ('{"product": "lamp", "days": true, "tags": []}', 0),
        ('{"product": "lamp", "days": 3, "tags": [], "extra": 1}', 0),
        ("```json\n" + TICKET + "\n```", 0),
        ("[]", 0),
    ],
)
def test_schema_validity(answer, valid):
    assert schema_valid(answer, "", compiled_schema(infer_schema([TICKET]))) == valid


def test_objects_with_many_keys_are_mappings():
    targets = [json.dumps({f"item{number}": number}) for number in range(60)]
    validator = compiled_schema(infer_schema(targets))
    assert schema_valid('{"item77": 1}', "", validator) == 1
    assert schema_valid('{"item77": "one"}', "", validator) == 0


def test_no_schema_without_json():
    with pytest.raises(ScoreError, match="none of 1 targets is JSON"):
        infer_schema(["plain text"])


def test_a_wrong_schema_says_where():
    with pytest.raises(ScoreError, match="the JSON schema is wrong at properties/a/type"):
        compiled_schema({"properties": {"a": {"type": "strin"}}})


def test_remote_references_are_not_fetched():
    validator = compiled_schema({"$ref": "https://example.com/schema.json"})
    with pytest.raises(ScoreError, match="which it does not hold"):
        schema_valid("{}", "", validator)


@pytest.mark.req("R004")
@pytest.mark.req("R005")
def test_validity_from_95_to_99_5_percent():
    targets = [TICKET] * 1000
    baseline = score_samples(["schema_valid"], [TICKET] * 950 + ["{oops"] * 50, targets)
    candidate = score_samples(["schema_valid"], ["{oops"] * 5 + [TICKET] * 995, targets)
    before, after = baseline.metrics["schema_valid"], candidate.metrics["schema_valid"]
    assert (100 * before.value, 100 * after.value) == pytest.approx((95.0, 99.5))
    result = compare_scores("schema_valid", baseline, candidate)
    assert 100 * result.value == pytest.approx(4.5)
    assert result.ci_low > 0
    assert retries_avoided(1000, before.value, after.value) == pytest.approx(45)
    assert retries_avoided(20_000, 0.95, 0.995) == pytest.approx(900)
