"""Methods: LoRA, QLoRA, full, prompt tuning or a classification head, by data, goal and memory."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foretune.config import Method, Strict
from foretune.plan.rules import MethodRow, fired_rules, read_rules, scored
from foretune.plan.situation import Situation, situation_facts

__all__ = ["TRAINED_OPTIONS", "MethodChoice", "choose_method", "method_table"]

TRAINED_OPTIONS = ("fine-tune", "rag-fine-tune", "continued-pretraining", "smaller-model")
NAMES = {
    "lora": "LoRA",
    "qlora": "QLoRA (4-bit base)",
    "full": "full fine-tuning",
    "prompt": "prompt tuning",
    "prefix": "prefix tuning",
    "classify": "LoRA with a classification head",
    "regress": "LoRA with a head for one number",
    "dpo": "LoRA by preference pairs (DPO)",
    "orpo": "LoRA by preference pairs without a reference (ORPO)",
    "kto": "LoRA by answers judged good or poor (KTO)",
    "pretrain": "continued pretraining, all parameters",
}
# The names that the job file knows; QLoRA is LoRA on a quantised base.
JOB_METHODS: dict[str, Method] = {
    "lora": "lora",
    "qlora": "lora",
    "full": "full",
    "prompt": "prompt",
    "prefix": "prefix",
    "classify": "classify",
    "regress": "regress",
    "dpo": "dpo",
    "orpo": "orpo",
    "kto": "kto",
    "pretrain": "pretrain",
}


class MethodChoice(Strict):
    """The method chosen, what the job file calls it, the points of all, and why."""

    method: str
    name: str
    job_method: Method
    scores: dict[str, int]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def choose_method(
    situation: Situation, option: str = "fine-tune", facts: Mapping[str, Any] | None = None
) -> MethodChoice:
    """How to train; LoRA unless data, goal or memory speak for another (R182-R206)."""
    rules = read_rules()
    fired = fired_rules(rules.method_rules, facts if facts is not None else situation_facts(situation)).rules
    points = scored(rules.method_start, fired)
    best = max(points, key=lambda method: points[method])
    if option == "continued-pretraining":
        best = "pretrain"
    reasons = tuple(f"{rule.then} [{rule.source}]" for rule in fired if rule.points.get(best, 0) >= 0)
    warnings = tuple(rule.warning for rule in fired if rule.warning)
    return MethodChoice(
        method=best,
        name=NAMES[best],
        job_method=JOB_METHODS[best],
        scores=points,
        reasons=reasons,
        warnings=warnings,
    )


def method_table() -> tuple[MethodRow, ...]:
    """The methods side by side for a base of 7 billion parameters: cost, memory, quality, artefact (R183)."""
    return read_rules().methods
