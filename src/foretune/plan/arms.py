"""What each action is expected to score, how sure that is, and how much it must gain to be worth its cost."""

# SPDX-License-Identifier: Apache-2.0
#
# All in points of score over the best prompt, as fractions. Gains are those measured on the same samples; what was not
# measured is carried on from the shares of the failures, with the losses of a real retrieval assumed and named so.
from __future__ import annotations

import math
from typing import NamedTuple

from foretune.records.procedure import Action, Gain, Measurements, Stakes

__all__ = [
    "DAYS_PER_MONTH",
    "EFFORT",
    "RETRIEVAL_RECALL",
    "Arm",
    "Costs",
    "break_even",
    "costs_usd",
    "measured_arms",
    "required_gains",
    "worth_usd",
]

Z95 = 1.959964
DAYS_PER_MONTH = 30.44
RETRIEVAL_RECALL = 0.7  # of what the right facts mend, a retrieval that was not measured finds; assumed
# Points that an action must gain to be worth its effort, where no money is known.
EFFORT: dict[Action, float] = {
    "prompt": 0.0,
    "constrained decoding": 0.005,
    "RAG": 0.015,
    "fine-tune": 0.02,
    "fine-tune + RAG": 0.035,
    "collect data first": 0.045,
}


class Arm(NamedTuple):
    """One action: its score, its gain over the prompt with the standard error, and the gain that it must reach."""

    action: Action
    score: float
    gain: float
    error: float
    required: float

    @property
    def net(self) -> float:
        """Gain beyond what is required."""
        return self.gain - self.required


def measured_arms(m: Measurements) -> dict[Action, Arm]:
    """Every action whose score is measured or follows from measurements; empty without a prompted baseline.

    A score above the target counts as the target: more than good enough is worth nothing more.
    """
    if m.prompted is None:
        return {}
    gains = _gains(m)
    required = required_gains(m)
    base = m.prompted.value
    enough = _enough(m)
    return {
        action: Arm(
            action,
            min(1.0, base + value),
            min(base + value, enough) - min(base, enough),
            error,
            required[action],
        )
        for action, (value, error) in gains.items()
    }


def _enough(m: Measurements) -> float:
    """The score beyond which nothing is gained: the target, where what answers are worth is not known."""
    return m.target if m.target is not None and not worth_usd(m.stakes) else 1.0


def _gains(m: Measurements) -> dict[Action, tuple[float, float]]:
    """Gain over the prompt and its standard error, by action."""
    found: dict[Action, tuple[float, float]] = {"prompt": (0.0, 0.0)}
    layout = _of_gain(m.format_gain) or _of_share(m, "format", 1.0)
    if layout is not None:
        found["constrained decoding"] = layout
    facts = _of_gain(m.retrieval_gain) or _of_share(m, "knowledge", RETRIEVAL_RECALL)
    if facts is not None:
        found["RAG"] = facts
    tuned = _of_gain(m.tuned_gain)
    if tuned is None:
        return found
    found["fine-tune"] = tuned
    both = _with_facts(m, tuned)
    if both is not None:
        found["fine-tune + RAG"] = both
    if m.curve is not None:
        band = (m.curve.predicted_high - m.curve.predicted_low) / (2 * Z95)
        more = m.curve.predicted - m.curve.full_score
        best = both if both is not None and both[0] - tuned[0] > _more_required(m) else tuned
        found["collect data first"] = best[0] + more, math.hypot(best[1], band)
    return found


def _more_required(m: Measurements) -> float:
    """What retrieval must bring on top of training."""
    required = required_gains(m)
    return required["fine-tune + RAG"] - required["fine-tune"]


def _of_gain(gain: Gain | None) -> tuple[float, float] | None:
    return None if gain is None else (gain.value, (gain.high - gain.low) / (2 * Z95))


def _of_share(m: Measurements, kind: str, mended: float) -> tuple[float, float] | None:
    """The gain that follows from a share of the failures, of which the remedy mends a part."""
    share = None if m.kinds is None else getattr(m.kinds, kind)
    if share is None or m.prompted is None or m.kinds is None:
        return None
    lost = 1 - m.prompted.value
    spread = math.sqrt(share * (1 - share) / max(1, m.kinds.num_failures))
    return mended * share * lost, mended * lost * spread


def _recall(m: Measurements) -> float:
    """How much of what the right facts mend retrieval brings, as measured where it was."""
    if m.retrieval_gain is None or m.kinds is None or not m.kinds.knowledge or m.prompted is None:
        return RETRIEVAL_RECALL
    lost = m.kinds.knowledge * (1 - m.prompted.value)
    return min(1.0, max(0.0, m.retrieval_gain.value / lost)) if lost > 0 else RETRIEVAL_RECALL


def _with_facts(m: Measurements, tuned: tuple[float, float]) -> tuple[float, float] | None:
    """Fine-tuning with retrieval: what the trained model still fails and facts mend comes on top."""
    if m.kinds is None or m.kinds.left_to_context is None or m.prompted is None:
        return None
    left, n = m.kinds.left_to_context, m.prompted.n
    recall = _recall(m)
    return tuned[0] + recall * left, math.hypot(tuned[1], recall * math.sqrt(left * (1 - left) / n))


def worth_usd(stakes: Stakes | None) -> float:
    """Dollars between a right and a wrong answer; 0 where nobody said."""
    return 0.0 if stakes is None else stakes.value_per_success_usd + stakes.cost_per_failure_usd


def break_even(stakes: Stakes) -> float:
    """The accuracy from which an answer earns more than it costs: (cost of failure + of the query) / their sum.

    OpenAI, Optimizing LLM accuracy, with the price of the query added. 0 where nothing is said of worth.
    """
    worth = worth_usd(stakes)
    return (stakes.cost_per_failure_usd + stakes.usd_per_query) / worth if worth else 0.0


def required_gains(m: Measurements) -> dict[Action, float]:
    """Points of score that each action must gain over the prompt to pay for itself; a usual effort without money."""
    stakes = m.stakes
    if stakes is None or not worth_usd(stakes) or not stakes.queries_per_month:
        return dict(EFFORT)
    answers = stakes.queries_per_month * stakes.life_months
    costs = costs_usd(stakes, stakes.life_months, m.num_train or 0)
    return {action: sum(cost) / (answers * worth_usd(stakes)) for action, cost in costs.items()}


class Costs(NamedTuple):
    """Dollars beyond the prompt: before the start, and over the months that follow."""

    once: float
    running: float


def costs_usd(stakes: Stakes, months: float, num_train: int) -> dict[Action, Costs]:
    """What each action costs beyond the prompt over so many months; repeated trainings are among the running costs."""
    answers = stakes.queries_per_month * months

    def dearer(price: float | None) -> float:
        return 0.0 if price is None else (price - stakes.usd_per_query) * answers

    again = months * DAYS_PER_MONTH / stakes.retrain_every_days if stakes.retrain_every_days else 0.0
    rag = Costs(stakes.rag_setup_usd, dearer(stakes.rag_usd_per_query))
    kept = stakes.hosting_usd_per_month * months + again * stakes.training_usd
    tuned = Costs(stakes.training_usd + stakes.people_usd, dearer(stakes.tuned_usd_per_query) + kept)
    labels = stakes.label_usd_per_item * num_train + stakes.training_usd
    return {
        "prompt": Costs(0.0, 0.0),
        "constrained decoding": Costs(stakes.constrained_setup_usd, 0.0),
        "RAG": rag,
        "fine-tune": tuned,
        "fine-tune + RAG": Costs(tuned.once + rag.once, tuned.running + rag.running),
        "collect data first": Costs(tuned.once + labels, tuned.running),
    }
