"""Rules: the advice's data file, read once, and what speaks for and against each option in a situation."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from foretune.config import Strict

__all__ = ["Fired", "MethodRow", "Rule", "Rules", "fired_rules", "read_rules", "scored"]

RULES_FILE = Path(__file__).with_name("advice_rules.toml")
Operator = Literal["is", "in", "at_least", "at_most", "above", "below", "unknown"]


class Rule(Strict):
    """One rule: when it holds, what it says, how it moves the options, where it comes from."""

    id: str
    words: str
    when: tuple[tuple[Any, ...], ...]
    then: str
    points: dict[str, int]
    source: str
    date: str
    warning: str = ""
    until: str = ""
    layer: Literal["known", "measured"] = "known"


class MethodRow(Strict):
    """One method of training beside the others, for a base of 7 billion parameters."""

    id: str
    name: str
    cost: str
    memory: str
    memory_note: str
    quality: str
    trains: str
    artefact: str
    source: str


class Rules(NamedTuple):
    """Everything of the file: rules and starting points of options and of methods, and the table of methods."""

    start: dict[str, int]
    rules: tuple[Rule, ...]
    method_start: dict[str, int]
    method_rules: tuple[Rule, ...]
    methods: tuple[MethodRow, ...]


class Fired(NamedTuple):
    """What holds in a situation: the rules that count, and those that a measurement has replaced."""

    rules: tuple[Rule, ...]
    replaced: tuple[Rule, ...]


@functools.cache
def read_rules() -> Rules:
    """The bundled rules."""
    tree = tomllib.loads(RULES_FILE.read_text(encoding="utf-8"))
    return Rules(
        tree["start"],
        tuple(_rule(row) for row in tree["rule"]),
        tree["method_start"],
        tuple(_rule(row) for row in tree["method_rule"]),
        tuple(MethodRow(**row) for row in tree["method"]),
    )


def _rule(row: dict[str, Any]) -> Rule:
    return Rule(words=row.pop("if"), when=tuple(tuple(part) for part in row.pop("when")), **row)


def fired_rules(rules: tuple[Rule, ...], facts: Mapping[str, Any]) -> Fired:
    """The rules whose conditions all hold; one with `until` steps back as soon as that fact is measured."""
    held = [rule for rule in rules if all(_holds(condition, facts) for condition in rule.when)]
    replaced = tuple(rule for rule in held if rule.until and facts[rule.until] is not None)
    return Fired(tuple(rule for rule in held if rule not in replaced), replaced)


def _holds(condition: tuple[Any, ...], facts: Mapping[str, Any]) -> bool:
    """One condition; an unknown fact makes it false, unless that is what it asks. A value may name a fact."""
    value = facts[condition[0]]
    operator = condition[1]
    if operator == "unknown":
        return value is None
    wanted = condition[2]
    if isinstance(wanted, str) and operator not in ("is", "in"):
        wanted = facts[wanted]
    if value is None or wanted is None:
        return False
    return bool(_COMPARE[operator](value, wanted))


_COMPARE: dict[str, Any] = {
    "is": lambda value, wanted: value == wanted,
    "in": lambda value, wanted: value in wanted,
    "at_least": lambda value, wanted: value >= wanted,
    "at_most": lambda value, wanted: value <= wanted,
    "above": lambda value, wanted: value > wanted,
    "below": lambda value, wanted: value < wanted,
}


def scored(start: Mapping[str, int], rules: tuple[Rule, ...]) -> dict[str, int]:
    """The points of every option: its start and what the rules add."""
    return {option: points + sum(rule.points.get(option, 0) for rule in rules) for option, points in start.items()}
