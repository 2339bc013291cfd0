"""Advice: should we fine-tune at all? Options ranked by rules with sources, and what would change the answer."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from foretune.config import Strict
from foretune.plan.cost import labour_usd
from foretune.plan.methods import TRAINED_OPTIONS, MethodChoice, choose_method
from foretune.plan.rules import Fired, Rule, fired_rules, read_rules, scored
from foretune.plan.situation import Measured, Score, Situation, closed_share, situation_facts

__all__ = [
    "Advice",
    "Change",
    "Option",
    "Reason",
    "advice_text",
    "advise",
    "retries_avoided",
]

NAMES = {
    "prompting": "better prompting",
    "few-shot": "few-shot prompting",
    "structured-output": "constrained decoding (structured output)",
    "rag": "retrieval (RAG)",
    "fine-tune": "fine-tuning",
    "rag-fine-tune": "fine-tuning with retrieval",
    "continued-pretraining": "continued pretraining on domain text",
    "smaller-model": "a smaller model, tuned (distillation)",
    "collect-data": "better data first",
    "dont": "no training: keep what you have",
}
NEXT = {
    "prompting": "foretune run job.toml   # measures your instructions on the base: evaluate.instructions",
    "few-shot": "foretune run job.toml   # measures 5 to 10 examples in the base's prompt: evaluate.few_shot",
    "structured-output": "foretune run job.toml   # counts the valid answers: evaluate.json_schema",
    "rag": "measure retrieval on the same test samples; foretune does not retrieve documents",
    "fine-tune": "foretune plan job.toml --probe",
    "rag-fine-tune": "foretune plan job.toml --probe   # train on prompts that hold the retrieved text",
    "continued-pretraining": "foretune plan job.toml --set train.method=pretrain",
    "smaller-model": "foretune plan job.toml --probe   # base: a smaller model; data: answers of the large one",
    "collect-data": "foretune audit data.jsonl",
    "dont": "nothing to run; look again when the task, the traffic or the prices change",
}
Approach = Literal["supervised", "few-shot", "transfer learning", "domain-specific", "none"]
NEAR_POINTS, FAIR_POINTS = 15, 40


class Reason(Strict):
    """One rule that spoke: the points it gave, why, and where it comes from."""

    rule: str
    points: int
    text: str
    source: str
    date: str


class Option(Strict):
    """One thing to do: its points, what speaks for and against it, and the changes that would put it first."""

    id: str
    name: str
    score: int
    verdict: str
    reasons: tuple[Reason, ...]
    would_win_if: tuple[str, ...]


class Change(Strict):
    """One change of the situation that changes the answer."""

    change: str
    then: str
    name: str


class Notice(Strict):
    """A warning with the rule that raised it."""

    rule: str
    text: str
    source: str


class Advice(Strict):
    """The answer: options from best to worst; the first is chosen. `replaced` are rules that a measurement overtook."""

    chosen: str
    name: str
    sentence: str
    approach: Approach
    method: MethodChoice | None
    is_ready: bool
    missing: tuple[str, ...]
    options: tuple[Option, ...]
    baselines: dict[str, Score]
    closed_share: float | None
    floor: int
    changes: tuple[Change, ...]
    questions: tuple[str, ...]
    warnings: tuple[Notice, ...]
    replaced: tuple[str, ...]
    labour_hours: tuple[float, float]
    next_command: str


class _Trial(NamedTuple):
    """One thing that might be different, and the question whose answer it is."""

    words: str
    update: dict[str, Any]
    question: str


def advise(situation: Situation, *, waived: bool = False) -> Advice:
    """What to do in a situation: a ranked list of options, the chosen one first.

    Rules come from `advice_rules.toml`; where baselines are measured, those that only assume are dropped. `waived` says
    that the missing prompted baseline is accepted (R017). Deterministic: the same situation, the same answer.
    """
    facts = situation_facts(situation)
    fired = fired_rules(read_rules().rules, facts)
    points = scored(read_rules().start, fired.rules)
    order = _ranked(points)
    trials = [(trial, _chosen(_changed(situation, trial))) for trial in _trials(situation)]
    best = order[0]
    method = choose_method(situation, best, facts) if best in TRAINED_OPTIONS else None
    missing = tuple(_missing(facts, best)) if not waived else ()
    return Advice(
        chosen=best,
        name=NAMES[best],
        sentence=_sentence(best, fired, method),
        approach=_approach(best, situation),
        method=method,
        is_ready=not missing,
        missing=missing,
        options=tuple(_option(id, points, fired, best, trials) for id in order),
        baselines=_baselines(situation.measured),
        closed_share=_closed(situation, facts),
        floor=facts["floor"],
        changes=tuple(_changes(best, trials)),
        questions=tuple(dict.fromkeys(trial.question for trial, then in trials if trial.question and then != best)),
        warnings=tuple(_notices(fired, method, situation.checklist.unmet())),
        replaced=tuple(rule.id for rule in fired.replaced),
        labour_hours=labour_usd(1.0),
        next_command=NEXT[best],
    )


def advice_text(advice: Advice, width: int = 100) -> str:
    """The advice as text: the answer, the ranking with the strongest reasons, and what would change it."""
    lines = [f"Advice: {advice.sentence}", ""]
    for number, option in enumerate(advice.options[:5], 1):
        lines.append(f"{number}. {option.name} ({option.score}, {option.verdict})")
        strongest = sorted(option.reasons, key=lambda reason: -abs(reason.points))[:2]
        lines += [f"   {reason.points:+d} {reason.text} [{reason.source}]" for reason in strongest]
    if advice.changes:
        lines += ["", "What would change it:"]
        lines += [f"   {change.change}: {change.name}" for change in advice.changes]
    for title, texts in (
        ("Warnings:", [notice.text for notice in advice.warnings]),
        ("Not known:", advice.questions),
        ("Before training:", advice.missing),
    ):
        lines += ["", title, *(f"   {text}" for text in texts)] if texts else []
    lines += ["", f"Next: {advice.next_command}"]
    return "\n".join(_wrapped(line, width) for line in lines)


def _wrapped(line: str, width: int) -> str:
    """A long line on several, the rest indented as its text."""
    indent = " " * (len(line) - len(line.lstrip()) + 3)
    return "\n".join(textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)) if line else ""


def retries_avoided(num_queries: float, valid_before: float, valid_after: float) -> float:
    """Queries that need no second try: N x (p1 - p0); 1,000 at 95 % and 99.5 % are 45 (R005)."""
    return num_queries * (valid_after - valid_before)


def _ranked(points: Mapping[str, int]) -> list[str]:
    """Options by points; of equals the simpler one, which stands first in the file."""
    order = list(points)
    return sorted(order, key=lambda option: (-points[option], order.index(option)))


def _chosen(situation: Situation) -> str:
    rules = read_rules()
    return _ranked(scored(rules.start, fired_rules(rules.rules, situation_facts(situation)).rules))[0]


def _option(id: str, points: Mapping[str, int], fired: Fired, best: str, trials: list[tuple[_Trial, str]]) -> Option:
    reasons = tuple(_reason(rule, rule.points[id]) for rule in fired.rules if rule.points.get(id))
    changes = tuple(trial.words for trial, then in trials if then == id and id != best)
    verdict = _verdict(points[id], points[best]) if id != best else "recommended"
    return Option(id=id, name=NAMES[id], score=points[id], verdict=verdict, reasons=reasons, would_win_if=changes)


def _reason(rule: Rule, points: int) -> Reason:
    return Reason(rule=rule.id, points=points, text=rule.then, source=rule.source, date=rule.date)


def _verdict(points: int, best: int) -> str:
    if points < 0:
        return "advised against"
    if best - points <= NEAR_POINTS:
        return "nearly as good"
    return "reasonable" if points >= FAIR_POINTS else "not now"


def _sentence(best: str, fired: Fired, method: MethodChoice | None) -> str:
    """The choice and the rule that spoke loudest for it."""
    rules = [rule for rule in fired.rules if rule.points.get(best, 0) > 0]
    with_method = f" with {method.name}" if method else ""
    if not rules:
        return f"{NAMES[best]}{with_method}: the simplest thing that may work"
    loudest = max(rules, key=lambda rule: rule.points[best])
    return f"{NAMES[best]}{with_method}: {loudest.then} [{loudest.id}]"


def _approach(best: str, situation: Situation) -> Approach:
    """Which of the four kinds of fine-tuning the choice is; supervised is the default (R028, R029)."""
    if best in ("prompting", "few-shot", "structured-output"):
        return "few-shot"
    if best not in TRAINED_OPTIONS:
        return "none"
    if best == "continued-pretraining" or situation.goal in ("domain-language", "new-language"):
        return "domain-specific"
    return "transfer learning" if situation.related_model else "supervised"


def _missing(facts: Mapping[str, Any], best: str) -> Iterator[str]:
    """What must be there before training may begin."""
    if best not in TRAINED_OPTIONS:
        return
    if facts["prompted"] is None:
        yield "a measured baseline of the base with its best prompt, on the same test split"
    if facts["goal"] in ("cost", "latency"):
        if facts["usd_per_query_now"] is None:
            yield "the cost of a query now"
        if facts["latency_seconds_now"] is None:
            yield "the latency of a query now"


def _baselines(seen: Measured) -> dict[str, Score]:
    names = ("zero_shot", "few_shot", "structured_output", "rag", "fine_tuned", "rag_fine_tuned", "small_model")
    return {name: score for name in names if (score := getattr(seen, name)) is not None}


def _closed(situation: Situation, facts: Mapping[str, Any]) -> float | None:
    """How much of the gap prompting has closed, where all three are known."""
    plain = situation.measured.zero_shot
    if plain is None or facts["target"] is None or situation.measured.few_shot is None:
        return None
    if plain.value >= facts["target"]:
        return None
    return closed_share(plain.value, facts["prompted"], facts["target"])


def _notices(fired: Fired, method: MethodChoice | None, unmet: list[str]) -> Iterator[Notice]:
    for rule in fired.rules:
        if rule.warning:
            text = rule.warning + (f": {', '.join(unmet)}" if rule.id == "prompt-half-tried" else "")
            yield Notice(rule=rule.id, text=text, source=rule.source)
    if method is not None:
        for text in method.warnings:
            yield Notice(rule="method", text=text, source="method rules")


def _changes(best: str, trials: list[tuple[_Trial, str]]) -> Iterator[Change]:
    """One line for each other answer and question, the nearest change first."""
    seen: set[tuple[str, str]] = set()
    for trial, then in trials:
        key = (then, next(iter(trial.update)))
        if then != best and key not in seen:
            seen.add(key)
            yield Change(change=trial.words, then=then, name=NAMES[then])


def _changed(situation: Situation, trial: _Trial) -> Situation:
    """The situation with one thing different; `measured` and `checklist` are merged."""
    update = dict(trial.update)
    for part in ("measured", "checklist"):
        if part in update:
            update[part] = getattr(situation, part).model_copy(update=update[part])
    return situation.model_copy(update=update)


def _trials(situation: Situation) -> Iterator[_Trial]:
    """What might be otherwise: each field that is not so already, with the question if it is unknown."""
    yield from _data_trials(situation)
    yield from _use_trials(situation)
    yield from _measured_trials(situation)


def _data_trials(situation: Situation) -> Iterator[_Trial]:
    count = situation.num_examples
    question = "How many labelled examples are there?" if count is None else ""
    for number in (500, 1000, 5000):
        if count is None or count < number:
            yield _Trial(f"{number:,} good examples", {"num_examples": number, "data_quality": "good"}, question)
    if count is None or count >= 100:
        yield _Trial("only 50 examples", {"num_examples": 50}, question)
    if situation.data_quality != "poor" and (count or 0) > 0:
        question = "How good are the examples?" if situation.data_quality == "unknown" else ""
        yield _Trial("examples of poor quality", {"data_quality": "poor"}, question)
    if (situation.corpus_tokens or 0) < 1e9 and situation.goal in ("domain-language", "new-language"):
        question = "How much raw text of the domain is there?" if situation.corpus_tokens is None else ""
        yield _Trial("a billion tokens of raw text", {"corpus_tokens": 1e9}, question)
    question = "How often does the knowledge change?" if situation.knowledge_changes == "unknown" else ""
    for value, words in (("weekly", "facts that change every week"), ("never", "facts that never change")):
        if situation.knowledge_changes != value:
            yield _Trial(words, {"knowledge_changes": value}, question)


def _use_trials(situation: Situation) -> Iterator[_Trial]:
    checklist = dict.fromkeys(type(situation.checklist).model_fields, True)
    if situation.measured.zero_shot is None and situation.measured.few_shot is None:
        question = (
            "Was a good prompt tried, with every practice of the checklist?" if not situation.prompt_tried else ""
        )
        yield _Trial("a prompt with every practice tried", {"prompt_tried": True, "checklist": checklist}, question)
        if situation.prompt_tried is not False:
            yield _Trial("no good prompt tried", {"prompt_tried": False}, "")
    question = "How many queries a month?" if situation.queries_per_month is None else ""
    for number in (500, 1_000_000):
        if situation.queries_per_month is None or (situation.queries_per_month > number) == (number == 500):
            yield _Trial(f"{number:,} queries a month", {"queries_per_month": number}, question)
    if situation.task_changes_often is not True:
        yield _Trial("a task that changes often", {"task_changes_often": True}, "")
    for goal, words in (("knowledge", "the goal is facts"), ("behaviour", "the goal is behaviour")):
        if situation.goal != goal:
            question = "What is the model to do better?" if situation.goal == "unknown" else ""
            yield _Trial(words, {"goal": goal}, question)


def _measured_trials(situation: Situation) -> Iterator[_Trial]:
    """Results that would decide: the prompt at its target, the tuned model ahead or not, retrieval ahead."""
    seen = situation.measured
    target = seen.target or 0.9
    prompted = max((score.value for score in (seen.zero_shot, seen.few_shot) if score), default=None)
    few = {"target": target, "few_shot": Score(value=min(1.0, target + 0.03), n=2000)}
    if prompted is None or prompted < target:
        yield _Trial("a measured prompt at the target", {"measured": few}, "")
    base = prompted if prompted is not None else max(0.0, target - 0.15)
    here: dict[str, Any] = {} if prompted is not None else {"few_shot": Score(value=base, n=2000), "target": target}
    ahead = Score(value=min(1.0, base + 0.1), n=2000)
    if seen.fine_tuned is None:
        yield _Trial("a tuned model measured 10 points ahead", {"measured": {**here, "fine_tuned": ahead}}, "")
        level = Score(value=min(1.0, base + 0.01), n=2000)
        yield _Trial("a tuned model measured 1 point ahead", {"measured": {**here, "fine_tuned": level}}, "")
    if seen.rag is None:
        yield _Trial("retrieval measured 10 points ahead", {"measured": {**here, "rag": ahead}}, "")
