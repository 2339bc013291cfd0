"""Scores of JSON answers: four separate rates, never a silent repair, and the schema that the targets follow."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from foretune.errors import ScoreError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

__all__ = [
    "compiled_schema",
    "field_f1",
    "infer_schema",
    "json_match",
    "json_valid",
    "json_valid_unfenced",
    "parse_json",
    "retries_avoided",
    "schema_valid",
]

FENCE = re.compile(r"\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
DRAFT = "https://json-schema.org/draft/2020-12/schema"
MAX_PROPERTIES = 50  # an object with more distinct keys is a mapping, whose keys are data

Leaf = tuple[tuple[str | int, ...], str, Any]  # path, type, value


class Parsed(NamedTuple):
    """Whether a text is JSON, and its value."""

    ok: bool
    value: Any = None


def parse_json(text: str) -> Parsed:
    """Strict JSON (RFC 8259): no NaN or Infinity, nothing around it but white space."""
    try:
        return Parsed(True, json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        return Parsed(False)


def json_valid(prediction: str, target: str) -> float:
    """1 where the answer parses as it stands."""
    return float(parse_json(prediction).ok)


def json_valid_unfenced(prediction: str, target: str) -> float:
    """1 where the answer parses once a Markdown code fence around all of it is taken off."""
    fenced = FENCE.fullmatch(prediction)
    return float(parse_json(fenced[1] if fenced else prediction).ok)


def schema_valid(prediction: str, target: str, validator: Validator) -> float:
    """1 where the answer parses as it stands and follows the schema; this alone is called schema validity."""
    from referencing.exceptions import Unresolvable

    parsed = parse_json(prediction)
    if not parsed.ok:
        return 0.0
    try:
        return float(validator.is_valid(parsed.value))
    except RecursionError:
        return 0.0
    except Unresolvable as error:
        raise ScoreError(f"the schema refers to {error}, which it does not hold", fix="put it under $defs") from error


def json_match(prediction: str, target: str) -> float:
    """1 where both are the same JSON value: order of keys and way of writing numbers aside, order in lists not."""
    return float(_answer_leaves(prediction) == _target_leaves(target))


def field_f1(prediction: str, target: str) -> float:
    """F1 over fields: the leaves of the answer that are in the target with the same path, type and value.

    A place in a list is part of the path. An answer that does not parse scores 0.
    """
    wanted, given = _target_leaves(target), _answer_leaves(prediction)
    return 2 * len(given & wanted) / (len(given) + len(wanted)) if given else 0.0


def compiled_schema(schema: Mapping[str, Any]) -> Validator:
    """A validator of the schema's own draft (2020-12 where it names none); it never fetches a remote reference.

    Raises ScoreError where the schema itself is not valid.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        place = "/".join(str(part) for part in error.path) or "its root"
        raise ScoreError(f"the JSON schema is wrong at {place}: {error.message}", fix="mend the schema file") from None
    return kind(dict(schema), registry=Registry())


def infer_schema(targets: Sequence[str]) -> dict[str, Any]:
    """A simple schema that all the targets follow: types, keys, which keys are required, items of lists.

    Keys never seen are refused, unless there are so many that the object is a mapping. Give it the training targets.
    Raises ScoreError where no target is JSON.
    """
    parsed = [parse_json(target) for target in targets]
    values = [one.value for one in parsed if one.ok]
    if not values:
        raise ScoreError(
            f"none of {len(targets)} targets is JSON, expected targets to infer a schema from",
            fix="choose a text metric, or give a schema",
        )
    return {"$schema": DRAFT, **_schema_of(values)}


def retries_avoided(num_requests: int, baseline_rate: float, candidate_rate: float) -> float:
    """Requests that no longer fail and need no retry: N (p_candidate - p_baseline), rates as fractions."""
    return num_requests * (candidate_rate - baseline_rate)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _answer_leaves(text: str) -> set[Leaf]:
    parsed = parse_json(text)
    return _leaves(parsed.value) if parsed.ok else set()


def _target_leaves(text: str) -> set[Leaf]:
    parsed = parse_json(text)
    if not parsed.ok:
        raise ScoreError(f"the target {text[:60]!r} is not JSON", fix="mend the sample, or choose a text metric")
    return _leaves(parsed.value)


def _leaves(value: Any) -> set[Leaf]:
    """Every scalar and every empty container with its path; two JSON values are equal where these are."""
    found: set[Leaf] = set()
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, part = waiting.pop()
        children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        waiting += [((*path, key), child) for key, child in children]
        if not children and isinstance(part, dict | list):
            found.add((path, _type_name(part), None))
        elif not isinstance(part, dict | list):
            found.add((path, "number" if _type_name(part) == "integer" else _type_name(part), part))
    return found


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _schema_of(values: Sequence[Any]) -> dict[str, Any]:
    types = {_type_name(value) for value in values}
    if "number" in types:
        types.discard("integer")
    names = sorted(types)
    schema: dict[str, Any] = {"type": names[0] if len(names) == 1 else names}
    if objects := [value for value in values if isinstance(value, dict)]:
        schema |= _object_schema(objects)
    if items := [item for value in values if isinstance(value, list) for item in value]:
        schema["items"] = _schema_of(items)
    return schema


def _object_schema(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for one in objects for key in one))
    if len(keys) > MAX_PROPERTIES:
        return {"additionalProperties": _schema_of([value for one in objects for value in one.values()])}
    return {
        "properties": {key: _schema_of([one[key] for one in objects if key in one]) for key in keys},
        "required": [key for key in keys if all(key in one for one in objects)],
        "additionalProperties": False,
    }
