"""What training frameworks do where the user says nothing: precision, loss kernel, adapters, sharding."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Framework", "framework_of"]


@dataclass(frozen=True)
class Framework:
    """A framework's habits; frameworks.json explains each field and gives its source."""

    name: str
    full_state: str = "pure"
    adapter: str = "fp32"
    loss: str = "full"
    attention: str = "flash"
    checkpointing: str = "full"
    sharding: str = "zero3"
    engine: str = "fsdp"
    optimiser: str = "adamw"
    optimiser_single: str = ""
    rank: int = 0
    targets: tuple[str, ...] = ()
    precision: str = "bf16"
    upcasts: bool = False
    gathers_all: bool = False
    fused_qkv: bool = False
    reports: str = "device"
    source: str = ""


@cache
def _frameworks() -> tuple[tuple[tuple[str, ...], Framework], ...]:
    table = json.loads(files("foretune.plan").joinpath("frameworks.json").read_text(encoding="utf-8"))
    entries = []
    for entry in (*table["frameworks"], {"name": "any", "words": []}):
        facts = table["default"] | entry
        words = tuple(facts.pop("words"))
        facts["targets"] = tuple(facts.get("targets", ()))
        entries.append((words, Framework(**facts)))
    return tuple(entries)


@cache
def framework_of(name: str) -> Framework:
    """What is known of the framework that `name` speaks of; the common habits, called `any`, where nothing is."""
    text = name.lower()
    matching = [(len(words), facts) for words, facts in _frameworks() if all(word in text for word in words)]
    return max(matching, key=lambda pair: pair[0])[1]
