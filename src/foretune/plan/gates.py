"""The gates of "should we fine-tune?": each looks at measurements, says pass, stop or unknown, shows its numbers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

from foretune.plan.arms import (
    DAYS_PER_MONTH,
    Arm,
    break_even,
    costs_usd,
    measured_arms,
    worth_usd,
)
from foretune.records.procedure import Action, Gate, Measurements, Rate
from foretune.stats.power import Spread, visible_difference

__all__ = [
    "LEAST_AGREEMENT",
    "LEAST_BEHAVIOUR",
    "LEAST_LABELLED",
    "MARGIN",
    "MOSTLY",
    "failure_kinds",
    "learning_curve",
    "light_arm",
    "measurable",
    "money",
    "prompted_baseline",
    "sure_gain",
    "trained_arm",
    "visible_gain",
]

LEAST_LABELLED, GOOD_LABELLED = 100, 200
LEAST_AGREEMENT = 0.667  # Krippendorff's convention: below it the rubric is the suspect
MARGIN = 0.02  # less than two points matter to nobody
NEAR = 0.05  # headroom that is too little to be worth training for
WIDE = 0.1  # an interval that reaches so far below what is good enough says nothing
MOSTLY = 0.5  # of the failures: this remedy first
LEAST_BEHAVIOUR = 0.3  # of the failures: training is a candidate
LIGHT_Z, TRAIN_Z = 0.7, 1.0  # how many standard errors a gain must be above 0 (light), or above nothing-to-speak-of
TRAINED: tuple[Action, ...] = ("fine-tune", "fine-tune + RAG")
LIGHT: tuple[Action, ...] = ("prompt", "constrained decoding", "RAG")
JOB = "foretune decide job.toml"


def measurable(m: Measurements) -> Gate:
    """Gate 0: are there labelled samples to measure with, and do people agree on what is right?"""
    numbers = {
        "labelled samples": _number(m.num_labelled),
        "human agreement": m.human_agreement,
        "ceiling": m.ceiling,
    }

    def gate(status: str, sentence: str, command: str = "", action: Action | None = None) -> Gate:
        return _gate("measurable", "Can it be measured?", status, numbers, sentence, command, action)

    if m.num_labelled is None:
        return gate("unknown", "nobody said how many labelled samples there are", "foretune audit data.jsonl")
    if m.human_agreement is not None and m.human_agreement < LEAST_AGREEMENT:
        return gate(
            "stop",
            f"people agree too little (alpha {m.human_agreement:.2f}, expected {LEAST_AGREEMENT} or more): the rubric "
            "is the suspect, not the model",
            "foretune collect agreement WORK",
            "collect data first",
        )
    if m.num_labelled < LEAST_LABELLED:
        return gate(
            "stop",
            f"{m.num_labelled} labelled samples to measure with, expected {LEAST_LABELLED} or more, better "
            f"{GOOD_LABELLED}",
            "foretune collect --help",
            "collect data first",
        )
    few = "" if m.num_labelled >= GOOD_LABELLED else f"; {GOOD_LABELLED} would be better"
    if m.human_agreement is None:
        return gate(
            "pass",
            f"{m.num_labelled:,} labelled samples{few}; whether people agree on them is unknown",
            "foretune collect agreement WORK",
        )
    return gate("pass", f"{m.num_labelled:,} labelled samples{few}; people agree (alpha {m.human_agreement:.2f})")


def prompted_baseline(m: Measurements) -> Gate:
    """Gate 1: is the best prompt enough, and could a gain over it be shown at all?"""
    reachable = _reachable(m)
    headroom = None if m.prompted is None else reachable - m.prompted.value
    visible = visible_gain(m)
    numbers = {
        "prompted": None if m.prompted is None else m.prompted.value,
        "prompted low": None if m.prompted is None else m.prompted.low,
        "target": m.target,
        "headroom": headroom,
        "smallest visible gain": visible,
    }

    def gate(status: str, sentence: str, command: str = "", action: Action | None = None) -> Gate:
        return _gate("prompted baseline", "Is a good prompt enough?", status, numbers, sentence, command, action)

    if m.prompted is None or headroom is None:
        return gate("unknown", "the base with its best prompt is not measured", f"{JOB} --measure baseline")
    shown = f"{m.prompted.value:.1%} ({m.prompted.low:.1%} to {m.prompted.high:.1%}, n = {m.prompted.n})"
    if m.target is not None and m.prompted.low >= m.target:
        return gate("stop", f"the best prompt reaches the target of {m.target:.1%}: {shown}", action="prompt")
    if reachable - m.prompted.low > WIDE and headroom < NEAR:
        return gate(
            "stop",
            f"the best prompt may be good enough, or far from it: {shown}",
            "foretune collect --help",
            "collect data first",
        )
    if headroom < NEAR and not sure_gain(m):
        left = f"the best prompt leaves {max(0.0, headroom):.1%} to gain, too little to train for: {shown}"
        return gate("stop", left, action=light_arm(m).action)
    if visible is not None and headroom < visible and not _is_any_sure(m):
        return gate(
            "stop",
            f"{headroom:.1%} is left to gain and the samples show {visible:.1%} at best: a gain could not be shown",
            "foretune collect --help",
            "collect data first",
        )
    return gate("pass", f"the best prompt scores {shown}; {headroom:.1%} is left to gain")


def failure_kinds(m: Measurements) -> Gate:
    """Gate 2: is what fails knowledge, format or behaviour?"""
    kinds = m.kinds
    numbers = {
        "knowledge": None if kinds is None else kinds.knowledge,
        "format": None if kinds is None else kinds.format,
        "behaviour": None if kinds is None else kinds.behaviour,
        "failures": None if kinds is None else float(kinds.num_failures),
    }

    def gate(status: str, sentence: str, command: str = "", action: Action | None = None) -> Gate:
        return _gate("kind of failure", "What kind of failure is it?", status, numbers, sentence, command, action)

    if kinds is None or kinds.behaviour is None:
        return gate("unknown", "the failures of the best prompt are not asked again", f"{JOB} --measure failures")
    said = ", ".join(
        f"{name} {value:.0%}"
        for name, value in (("knowledge", kinds.knowledge), ("format", kinds.format), ("behaviour", kinds.behaviour))
        if value is not None
    )
    first = _first_remedy(m)
    if m.tuned_gain is None and kinds.behaviour < LEAST_BEHAVIOUR:
        best = light_arm(m)
        why = "training is no candidate: too little of what fails is behaviour"
        return gate("stop", f"of the failures {said}; {why}", action=best.action)
    tip = f"; {first} mends most of it" if first else ""
    return gate("pass", f"of {kinds.num_failures} failures {said}{tip}")


def learning_curve(m: Measurements) -> Gate:
    """Gate 3: does training gain what matters, for sure, and would more data gain more?"""
    curve = m.curve
    numbers = {
        "tuned gain": None if m.tuned_gain is None else m.tuned_gain.value,
        "tuned gain low": None if m.tuned_gain is None else m.tuned_gain.low,
        "last doubling": None if curve is None else curve.doubling_gain,
        "twice the data": None if curve is None else curve.predicted,
    }

    def gate(status: str, sentence: str, command: str = "", action: Action | None = None) -> Gate:
        question = "Does training gain anything, and would more data?"
        return _gate("learning curve", question, status, numbers, sentence, command, action)

    if m.prompted is None or m.tuned_gain is None:
        return gate("unknown", "nothing is trained yet, not even on a part of the data", f"{JOB} --measure curve")
    arms, light = measured_arms(m), light_arm(m)
    trained = trained_arm(m)
    shown = f"{m.tuned_gain.value:+.1%} ({m.tuned_gain.low:+.1%} to {m.tuned_gain.high:+.1%}) over the prompt"
    more = arms.get("collect data first")
    is_rising = curve is not None and curve.answer == "helps"
    ahead = 0.0 if more is None else more.gain - max(arms["fine-tune"].gain, trained.gain)
    twice = f"; twice the data is expected to gain {ahead:+.1%} more" if is_rising and ahead > MARGIN else ""
    if sure_gain(m):
        return gate("pass", f"training gains {shown}{twice}")
    if _is_money_saved(trained) and trained.net > light.net and trained.gain + trained.error >= light.gain - MARGIN:
        return gate("pass", f"training changes the score by {shown}; it is for the cheaper query")
    if more is not None and is_rising and more.net - light.net > MARGIN:
        return gate(
            "stop",
            f"training gains {shown}, not enough yet, and the curve rises: label more first",
            "foretune collect --help",
            "collect data first",
        )
    if trained.net - light.net > MARGIN and light.action == "prompt":
        return gate(
            "stop",
            f"training gains {shown}, which these samples cannot tell from chance: label more of them first",
            "foretune collect --help",
            "collect data first",
        )
    flat = "the curve is flat and " if curve is not None and curve.answer == "flat" else ""
    what = "the prompt" if light.action == "prompt" else light.action
    return gate("stop", f"{flat}training gains {shown}: no more than {what} for its effort", action=light.action)


def money(m: Measurements) -> Gate:
    """Gate 4: does an answer earn more than it costs, and does training pay back in time?"""
    stakes, trained = m.stakes, trained_arm(m) if m.prompted is not None else None
    is_known = stakes is not None and worth_usd(stakes) > 0 and stakes.queries_per_month > 0
    days = payback_days(m, trained) if is_known and trained is not None and trained.action in TRAINED else None
    numbers = {
        "break-even score": break_even(stakes) if stakes is not None and is_known else None,
        "payback days": days,
        "required gain": trained.required if trained is not None and trained.action in TRAINED else None,
    }

    def gate(status: str, sentence: str, command: str = "", action: Action | None = None) -> Gate:
        return _gate("money", "Does it pay?", status, numbers, sentence, command, action)

    if stakes is None or not is_known:
        return gate("unknown", "what a right answer is worth is not said", "foretune plan --questions > project.toml")
    if m.prompted is None or trained is None:
        return gate("unknown", "without a baseline nothing can be priced", f"{JOB} --measure baseline")
    least = break_even(stakes)
    best = max(measured_arms(m).values(), key=lambda arm: arm.net)
    if m.prompted.value + best.net < least and _is_all_measured(m):
        return gate(
            "stop",
            f"an answer earns from {least:.1%} right on, and {best.action} is expected at {best.score:.1%}",
            action="do not automate",
        )
    if days is None:
        return gate("pass", f"an answer earns from {least:.1%} right on; the best is expected at {best.score:.1%}")
    if days > stakes.max_payback_days:
        never = "never" if math.isinf(days) else f"after {days:,.0f} days"
        limit = f"expected within {stakes.max_payback_days:.0f}"
        return gate("stop", f"training pays back {never}, {limit}", action=light_arm(m).action)
    return gate("pass", f"training pays back after {days:,.0f} days")


def payback_days(m: Measurements, trained: Arm) -> float:
    """Days until training has earned what it cost beyond the best that needs none; infinite where it never does.

    One-off costs over what is earned a day: (gain x worth of a right answer - dearer query - hosting - retraining).
    """
    stakes, light = m.stakes, light_arm(m)
    if stakes is None:
        return math.inf
    costs = costs_usd(stakes, 1.0, 0)
    then, now = costs[trained.action], costs[light.action]
    earned = (trained.gain - light.gain) * worth_usd(stakes) * stakes.queries_per_month - (then.running - now.running)
    once = then.once - now.once
    if once <= 0:
        return 0.0
    return once / earned * DAYS_PER_MONTH if earned > 0 else math.inf


def light_arm(m: Measurements) -> Arm:
    """The best of what needs no training; anything but the prompt must be ahead by more than chance."""
    arms = measured_arms(m)
    surely = [arms[name] for name in LIGHT if name in arms and (name == "prompt" or _is_ahead(arms[name]))]
    return max(surely, key=lambda arm: arm.net)


def trained_arm(m: Measurements) -> Arm:
    """Fine-tuning, with retrieval where that surely brings more; the best light arm where nothing was trained."""
    arms = measured_arms(m)
    tuned, both = arms.get("fine-tune"), arms.get("fine-tune + RAG")
    if tuned is None:
        return light_arm(m)
    if both is None:
        return tuned
    more = both.gain - tuned.gain
    error = math.sqrt(max(0.0, both.error**2 - tuned.error**2))
    return both if more - LIGHT_Z * error > 0 and both.net - tuned.net > 0 else tuned


def sure_gain(m: Measurements) -> bool:
    """Whether training is ahead of what needs none by what it must gain, and by 2 points, beyond its errors."""
    trained, light = trained_arm(m), light_arm(m)
    if trained.action not in TRAINED:
        return False
    if trained.action == "fine-tune + RAG" and light.action == "RAG":
        error = measured_arms(m)["fine-tune"].error  # that of retrieval is in both
    else:
        error = max(trained.error, light.error)  # on the same samples, and both mend the format
    ahead = trained.gain - light.gain
    return ahead - TRAIN_Z * error > MARGIN / 2 and ahead > MARGIN + 1e-9 and trained.net > light.net


def visible_gain(m: Measurements) -> float | None:
    """The smallest gain that a paired comparison on these samples shows (power 80 %, correlation 0.5)."""
    n = m.num_test or (m.prompted.n if m.prompted is not None else None)
    if m.prompted is None or not n:
        return None
    return visible_difference(Spread("variance", _spread(m.prompted)), n)


def _spread(rate: Rate) -> float:
    return max(rate.value * (1 - rate.value), 0.01)


def _is_ahead(arm: Arm) -> bool:
    return arm.gain - LIGHT_Z * arm.error > 0


def _is_any_sure(m: Measurements) -> bool:
    return light_arm(m).action != "prompt" or sure_gain(m)


def _is_money_saved(trained: Arm) -> bool:
    """Whether training pays without any gain: the tuned query is so much cheaper."""
    return trained.action in TRAINED and trained.required < 0


def _is_all_measured(m: Measurements) -> bool:
    """Whether no unmeasured action could still be above the break-even."""
    if m.tuned_gain is not None or m.prompted is None or m.stakes is None:
        return True
    if m.kinds is None or m.kinds.behaviour is None:
        return False
    mended = m.kinds.behaviour + (m.kinds.format or 0.0)
    return m.prompted.value + mended * (1 - m.prompted.value) < break_even(m.stakes)


def _first_remedy(m: Measurements) -> str:
    kinds = m.kinds
    if kinds is None:
        return ""
    if (kinds.knowledge or 0.0) >= MOSTLY:
        return "retrieval"
    return "constrained decoding" if (kinds.format or 0.0) >= MOSTLY else ""


def _reachable(m: Measurements) -> float:
    return min(m.target if m.target is not None else 1.0, m.ceiling if m.ceiling is not None else 1.0)


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)


def _gate(
    name: str,
    question: str,
    status: str,
    numbers: dict[str, float | None],
    sentence: str,
    command: str,
    action: Action | None,
) -> Gate:
    return Gate.model_validate(
        {
            "name": name,
            "question": question,
            "status": status,
            "numbers": {key: _finite(value) for key, value in numbers.items()},
            "sentence": sentence,
            "command": command,
            "action": action,
        }
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
