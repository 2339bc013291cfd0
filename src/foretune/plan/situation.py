"""Situation: what is known of a project when it asks whether to fine-tune, and the facts that follow from it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from foretune.config import Strict
from foretune.errors import ConfigError
from foretune.plan.cost import monthly_saving_usd, payback_months

__all__ = [
    "Goal",
    "Measured",
    "PromptChecklist",
    "Score",
    "Situation",
    "closed_share",
    "example_floor",
    "expected_scores",
    "read_situation",
    "situation_facts",
    "wilson_interval",
]

Goal = Literal[
    "unknown",
    "knowledge",
    "format",
    "behaviour",
    "classification",
    "extraction",
    "domain-language",
    "new-language",
    "cost",
    "latency",
    "reasoning",
]
OTHER_NAMES = {
    "facts": "knowledge",
    "fact": "knowledge",
    "style": "behaviour",
    "behavior": "behaviour",
    "tone": "behaviour",
    "json": "format",
    "structured": "format",
    "classify": "classification",
    "sentiment": "classification",
    "extract": "extraction",
    "domain": "domain-language",
    "new-domain": "domain-language",
    "language": "new-language",
    "speed": "latency",
    "price": "cost",
}
SIMPLE_GOALS = ("classification", "extraction", "format")
SIMPLE_FLOOR, COMPLEX_FLOOR = 500, 1000  # R012, R415: two floors are in use, the task decides
VALID_FORMAT_TARGET = 0.99  # R003
MDE_Z = 1.959964 + 0.841621  # two-sided 5 %, power 80 %
BYTES_PER_PARAMETER = {"full": 12.0, "lora": 2.3, "qlora": 0.9}  # rough; the planner's own figures replace them
DAYS_PER_MONTH = 30.44
# Points of score that an option must gain to be worth its effort, from the least effort up; two points for training.
EFFORT = {
    "prompting": 0.0,
    "few-shot": 0.0,
    "structured-output": 0.005,
    "rag": 0.01,
    "fine-tune": 0.02,
    "rag-fine-tune": 0.03,
}
MENDED = {"knowledge": 0.7, "format": 0.8, "trained": 0.7}  # share of its failures that an option mends; assumed
LEAST_BEHAVIOUR = 0.3  # of the failures, for training to be a candidate; decision procedure, gate 2
HALF_LEARNED = 1000  # examples that teach half of what can be taught; assumed
QUALITY_RATIO, COST_RATIO, LATENCY_RATIO = 0.90, 10.0, 5.0  # R007

Count = int | None
Number = float | None


class PromptChecklist(Strict):
    """The four practices of a good prompt; None = nobody said."""

    clear_instructions: bool | None = Field(None, description="Clear and complete instructions.")
    relevant_examples: bool | None = Field(None, description="Five to ten examples in the prompt.")
    structured_output: bool | None = Field(None, description="Structured output: a schema, constrained decoding.")
    chain_of_thought: bool | None = Field(None, description="Step by step before the answer.")

    def unmet(self) -> list[str]:
        """The practices not known to be followed, in words."""
        return [name.replace("_", " ") for name, answer in self.model_dump().items() if answer is not True]


class Score(Strict):
    """A measured rate of success, 0 to 1, over `n` samples; without an interval Wilson's is used."""

    value: float = Field(ge=0, le=1)
    n: int | None = Field(None, gt=0)
    low: float | None = Field(None, ge=0, le=1)
    high: float | None = Field(None, ge=0, le=1)
    run_id: str = ""

    def interval(self) -> tuple[float, float]:
        """The 95 % interval: as given, else Wilson's, else the value itself."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return wilson_interval(self.value, self.n) if self.n else (self.value, self.value)


class Measured(Strict):
    """What was measured so far; it takes over from the rules that only assume."""

    target: float | None = Field(None, gt=0, le=1, description="Score that is good enough.")
    ceiling: float | None = Field(None, gt=0, le=1, description="Agreement of people: no system can do better.")
    zero_shot: Score | None = None
    few_shot: Score | None = None
    structured_output: Score | None = Field(None, description="With constrained decoding.")
    rag: Score | None = None
    fine_tuned: Score | None = None
    rag_fine_tuned: Score | None = None
    small_model: Score | None = Field(None, description="A smaller model, tuned.")
    human_agreement: float | None = Field(None, ge=-1, le=1, description="Krippendorff's alpha.")
    knowledge_share: float | None = Field(None, ge=0, le=1, description="Failures mended by the right facts.")
    format_share: float | None = Field(None, ge=0, le=1, description="Failures mended by a forced format.")
    behaviour_share: float | None = Field(None, ge=0, le=1, description="Failures of neither kind.")
    last_doubling_gain: float | None = Field(None, description="Gain from half the training data to all of it.")


class Situation(Strict):
    """What is known. Nothing is required; what is unknown is asked for where it would change the answer."""

    goal: Goal = Field("unknown", description="What the model is to do better.")
    task_complexity: Literal["unknown", "simple", "complex"] = Field("unknown", description="Of the task.")
    num_examples: Count = Field(None, ge=0, description="Labelled examples for training.")
    num_test_examples: Count = Field(None, ge=0, description="Labelled examples to test with.")
    data_quality: Literal["unknown", "poor", "mixed", "good"] = Field("unknown", description="Of the examples.")
    corpus_tokens: Number = Field(None, ge=0, description="Tokens of raw text of the domain or language.")
    has_teacher: bool | None = Field(None, description="A larger model may label examples.")
    related_model: bool | None = Field(None, description="A model tuned on a related task is there.")
    domain_distance: Literal["unknown", "near", "far"] = Field("unknown", description="From what the base knows.")
    knowledge_changes: Literal["unknown", "never", "yearly", "monthly", "weekly", "daily"] = Field(
        "unknown", description="How often the facts under the answers change."
    )
    task_changes_often: bool | None = Field(None, description="The task itself changes often.")
    is_subjective: bool | None = Field(None, description="What is right is a matter of opinion.")
    prompt_tried: bool | None = Field(None, description="A good prompt was tried.")
    checklist: PromptChecklist = Field(default_factory=PromptChecklist)
    base_quality: Literal["unknown", "weak", "adequate", "strong"] = Field("unknown", description="On this task.")
    parameters: Number = Field(None, gt=0, description="Parameters of the base.")
    device_memory_gb: Number = Field(None, gt=0, description="Memory of one device, GB = 1e9 bytes.")
    method_memory_gb: dict[str, float] = Field(
        default_factory=dict, description="Predicted peak by method (full, lora, qlora); replaces the rough rule."
    )
    queries_per_month: Number = Field(None, ge=0, description="Traffic.")
    prompt_tokens: Number = Field(None, ge=0, description="Tokens of the prompt used now.")
    usd_per_query_now: Number = Field(None, ge=0, description="Cost of a query now.")
    usd_per_query_tuned: Number = Field(None, ge=0, description="Cost of a query after tuning.")
    latency_seconds_now: Number = Field(None, ge=0, description="Latency now.")
    latency_seconds_tuned: Number = Field(None, ge=0, description="Latency after tuning.")
    max_latency_seconds: Number = Field(None, gt=0, description="Latency that is good enough.")
    hosting_usd_per_month: float = Field(0.0, ge=0, description="Hosting of the tuned model.")
    training_usd: Number = Field(None, ge=0, description="Predicted cost of training.")
    labour_usd: float = Field(0.0, ge=0, description="Work on data and evaluation.")
    budget_usd: Number = Field(None, ge=0, description="What may be spent on training.")
    privacy: Literal["any", "private-cloud", "on-premise"] = Field("any", description="Where data may go.")
    team: Literal["unknown", "none", "some", "ml-engineers"] = Field(
        "unknown", description="Who runs machines: none, some, ml-engineers."
    )
    measured: Measured = Field(default_factory=Measured)


def read_situation(values: Mapping[str, Any]) -> Situation:
    """A situation from plain values; usual other names of goals are understood.

    Raises ConfigError with every fault and the names that exist.
    """
    tree = dict(values)
    goal = tree.get("goal")
    if isinstance(goal, str):
        tree["goal"] = OTHER_NAMES.get(goal.lower(), goal.lower())
    try:
        return Situation.model_validate(tree)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors()]
    raise ConfigError("\n".join(faults), fix=f"goals: {', '.join(get_args(Goal))}")


def _fault(item: Any) -> str:
    names = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        model: Any = Situation
        for part in names[:-1]:
            annotation = model.model_fields[part].annotation
            options = [annotation, *get_args(annotation)]
            model = next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
        close = difflib.get_close_matches(names[-1], model.model_fields, n=1)
        return f"unknown `{'.'.join(names)}`" + (f"; did you mean `{close[0]}`?" if close else "")
    hint = (
        difflib.get_close_matches(str(item["input"]), [*get_args(Goal), *OTHER_NAMES], n=1) if names == ["goal"] else []
    )
    meant = f"; did you mean `{hint[0]}`?" if hint else ""
    return f"`{'.'.join(names)}`: got {item['input']!r}, {item['msg'][:1].lower()}{item['msg'][1:]}{meant}"


def wilson_interval(value: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate over `n` samples (Wilson 1927)."""
    z = 1.959964
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def example_floor(situation: Situation) -> int:
    """Examples below which few-shot prompting is advised: 500 for a simple task, else 1,000 (R012, R415)."""
    simple = situation.task_complexity == "simple" or (
        situation.task_complexity == "unknown" and situation.goal in SIMPLE_GOALS
    )
    return SIMPLE_FLOOR if simple else COMPLEX_FLOOR


def closed_share(zero_shot: float, prompted: float, target: float) -> float:
    """Share of the gap between the plain model and the target that prompting closes; NaN without a gap (R018)."""
    gap = target - zero_shot
    return (prompted - zero_shot) / gap if gap > 0 else math.nan


def situation_facts(situation: Situation) -> dict[str, Any]:
    """Every fact that a rule may ask for: the fields, and what follows from them; None = unknown."""
    plain = situation.model_dump(exclude={"measured", "checklist", "method_memory_gb"})
    facts = {name: None if value == "unknown" else value for name, value in plain.items()}
    facts["floor"] = example_floor(situation)
    facts["is_for_quality"] = situation.goal not in ("cost", "latency")
    return {
        **facts,
        **_prompt_facts(situation.checklist),
        **_money_facts(situation),
        **_memory_facts(situation),
        **_measured_facts(situation),
        **_compression_facts(situation),
    }


def _prompt_facts(checklist: PromptChecklist) -> dict[str, Any]:
    return {
        "checklist_open": len(checklist.unmet()),
        "structured_output_tried": checklist.structured_output,
    }


def _money_facts(situation: Situation) -> dict[str, Any]:
    """Payback, labour and hosting included, in days; infinite where nothing is saved."""
    days: float | None = None
    now, then, queries = situation.usd_per_query_now, situation.usd_per_query_tuned, situation.queries_per_month
    if now is not None and then is not None and queries is not None and situation.training_usd is not None:
        saving = monthly_saving_usd(now, then, queries) - situation.hosting_usd_per_month
        days = payback_months(situation.training_usd + situation.labour_usd, saving) * DAYS_PER_MONTH
    budget, cost = situation.budget_usd, situation.training_usd
    slow, limit = situation.latency_seconds_now, situation.max_latency_seconds
    return {
        "payback_days": days,
        "is_over_budget": None if budget is None or cost is None else cost > budget,
        "is_too_slow": None if slow is None or limit is None else slow > limit,
    }


def _memory_facts(situation: Situation) -> dict[str, Any]:
    """Whether each method fits, by the planner's figures or about 12, 2.3 and 0.9 bytes a parameter."""
    memory, size = situation.device_memory_gb, situation.parameters
    found: dict[str, Any] = {}
    for method, rough in BYTES_PER_PARAMETER.items():
        need = situation.method_memory_gb.get(method)
        if need is None and size is not None:
            need = size * rough / 1e9
        found[f"{method}_fits"] = None if memory is None or need is None else need <= memory
    return found


def _measured_facts(situation: Situation) -> dict[str, Any]:
    """The scores, their differences and what the test set can show; None where not measured."""
    seen = situation.measured
    target = seen.target or (VALID_FORMAT_TARGET if situation.goal == "format" else None)
    name, prompted = _best_prompt(seen)
    found: dict[str, Any] = {
        "target": target,
        "best_prompt": name,
        "prompted": prompted.value if prompted else None,
        "prompted_low": prompted.interval()[0] if prompted else None,
        "prompted_of_target": prompted.value / target if prompted and target else None,
        "fine_tuned": seen.fine_tuned.value if seen.fine_tuned else None,
        "rag": seen.rag.value if seen.rag else None,
        "tuned_gain": _gain(seen.fine_tuned, prompted),
        "rag_gain": _gain(seen.rag, prompted),
        "tuned_gain_low": _gain_low(seen.fine_tuned, prompted),
    }
    for field in ("human_agreement", "knowledge_share", "format_share", "behaviour_share", "last_doubling_gain"):
        found[field] = getattr(seen, field)
    reachable = min(target or 1.0, seen.ceiling or 1.0)
    found["best_option"] = _best_option(situation, prompted, target)
    found["headroom"] = max(0.0, reachable - prompted.value) if prompted else None
    found["smallest_visible"] = _smallest_visible(prompted)
    return found


def expected_scores(situation: Situation) -> dict[str, float]:
    """The score of every option: as measured, else by the failures that it would mend; only what is known.

    Retrieval mends most failures of knowledge, constrained decoding those of format, training those of behaviour and
    format as far as its examples reach; the shares mended are assumed.
    """
    seen = situation.measured
    _, prompted = _best_prompt(seen)
    if prompted is None:
        return {}
    named = {
        "prompting": seen.zero_shot,
        "few-shot": seen.few_shot,
        "structured-output": seen.structured_output,
        "rag": seen.rag,
        "fine-tune": seen.fine_tuned,
        "rag-fine-tune": seen.rag_fine_tuned,
    }
    known = {option: score.value for option, score in named.items() if score is not None}
    found = {**_mended(situation, prompted.value), **known}
    if "rag-fine-tune" not in found and {"rag", "fine-tune"} <= set(found):
        found["rag-fine-tune"] = min(1.0, found["rag"] + found["fine-tune"] - prompted.value)
    return found


def _mended(situation: Situation, prompted: float) -> dict[str, float]:
    """Scores predicted from the shares of the failures; training only from the floor of examples up."""
    seen, left, found = situation.measured, 1 - prompted, {}
    if seen.knowledge_share is not None:
        found["rag"] = prompted + left * MENDED["knowledge"] * seen.knowledge_share
    if seen.format_share is not None:
        found["structured-output"] = prompted + left * MENDED["format"] * seen.format_share
    count = situation.num_examples or 0
    if (seen.behaviour_share or 0.0) >= LEAST_BEHAVIOUR and count >= example_floor(situation):
        learned = count / (count + HALF_LEARNED) * MENDED["trained"]
        share = (seen.behaviour_share or 0.0) + (seen.format_share or 0.0)
        found["fine-tune"] = prompted + left * learned * share
    return found


def _best_option(situation: Situation, prompted: Score | None, target: float | None) -> str | None:
    """The option with the best score for its effort; the least effort where several reach the target.

    None where only prompts are known, or nothing is better and nobody knows what training would do.
    """
    scores = expected_scores(situation)
    if prompted is None or not set(scores) - {"prompting", "few-shot"}:
        return None
    enough = [option for option in EFFORT if target is not None and scores.get(option, 0.0) >= target]
    if enough:
        return enough[0]
    best = max(scores, key=lambda option: (scores[option] - EFFORT[option], -list(EFFORT).index(option)))
    untold = "fine-tune" not in scores and situation.measured.behaviour_share is None
    return None if untold and best in ("prompting", "few-shot") else best


def _best_prompt(seen: Measured) -> tuple[str | None, Score | None]:
    pairs = [("zero-shot", seen.zero_shot), ("few-shot", seen.few_shot)]
    given = [(name, score) for name, score in pairs if score is not None]
    return max(given, key=lambda pair: pair[1].value) if given else (None, None)


def _gain(score: Score | None, other: Score | None) -> float | None:
    return round(score.value - other.value, 9) if score and other else None


def _gain_low(score: Score | None, other: Score | None) -> float | None:
    """The lower end of the difference, as if the samples were not the same (Newcombe 1998): never too sure."""
    if score is None or other is None:
        return None
    low, above = score.value - score.interval()[0], other.interval()[1] - other.value
    return score.value - other.value - math.hypot(low, above)


def _smallest_visible(prompted: Score | None) -> float:
    """The smallest gain that a paired test of this size shows (power 80 %, correlation 0.5); 0 if n is unknown."""
    if prompted is None or prompted.n is None:
        return 0.0
    spread = max(prompted.value * (1 - prompted.value), 0.01)
    return MDE_Z * math.sqrt(spread / prompted.n)


def _compression_facts(situation: Situation) -> dict[str, Any]:
    """The small model against the large one: 90 % of the quality, a tenth of the cost, a fifth of the latency."""
    _, prompted = _best_prompt(situation.measured)
    small = situation.measured.small_model
    quality = small.value / prompted.value if small and prompted and prompted.value else None
    ratios = (
        _ratio(situation.usd_per_query_now, situation.usd_per_query_tuned),
        _ratio(situation.latency_seconds_now, situation.latency_seconds_tuned),
    )
    met = None
    if quality is not None and ratios[0] is not None:
        fast = ratios[1] is None or ratios[1] >= LATENCY_RATIO - 1e-9
        met = quality >= QUALITY_RATIO - 1e-9 and ratios[0] >= COST_RATIO - 1e-9 and fast
    return {"quality_ratio": quality, "cost_ratio": ratios[0], "latency_ratio": ratios[1], "compression_met": met}


def _ratio(now: float | None, then: float | None) -> float | None:
    return now / then if now is not None and then else None
