"""Worlds where the best action is known: every arm answers every item of a large pool; users see a small part of it.

The best action follows from the arms' scores over the whole pool, what answers are worth and what arms cost. Nothing
here knows the procedure's rules. `synthetic` draws failures with four causes; `real` fits classifiers to real data.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from foretune.records.procedure import Action, Stakes

__all__ = ["ARCHETYPES", "SHARES", "Truth", "World", "synthetic", "truth_of"]

SHARES = (0.1, 0.25, 0.5, 1.0, 2.0)
POOL = 20_000
TIE = 0.01  # of score: actions this near to the best are as good
MONTH_DAYS = 30.44
TRIALS = 200
ARCHETYPES = (
    "good prompt",
    "format",
    "facts",
    "skill",
    "skill and facts",
    "flat",
    "few labels",
    "raters disagree",
    "costly failures",
    "cheaper query",
    "mixed",
    "more data",
)
Bools = np.ndarray


@dataclass
class World:
    """One project. Outcomes are arrays over the pool: whether the arm's answer is right.

    `asked_format`, `asked_context`, `asked_placebo`: the prompted base asked again. `tuned`: by share of the training
    data, as one training run gives; the score of 1.0 and 2.0 is what training gives. `noise`: how often a person's
    label is not the truth, and `agreement` what two people's labels give on 50 items, None where nobody looked.
    """

    name: str
    archetype: str
    source: str
    prompt: Bools
    asked_format: Bools
    asked_context: Bools
    asked_placebo: Bools
    tuned_context: Bools
    tuned_placebo: Bools
    constrained: Bools
    rag: Bools
    both: dict[float, Bools]
    tuned: dict[float, Bools]
    num_train: int
    num_validation: int
    validation: np.ndarray
    num_classes: int
    noise: float
    is_retrieval_measured: bool
    target: float | None
    stakes: Stakes | None
    life_months: float
    effort: dict[str, float] = field(default_factory=dict)
    agreement: float | None = None


@dataclass(frozen=True)
class Truth:
    """What each action is really worth, in points of score, and which actions are right."""

    worth: dict[Action, float]
    scores: dict[str, float]
    best: Action
    accepted: frozenset[Action]
    power: float


def judged(score: float, noise: float, num_classes: int) -> float:
    """The share of answers that a person agrees with, whose own label is off the truth with probability `noise`."""
    return score * (1 - noise) + (1 - score) * noise / max(1, num_classes - 1)


def seen(world: World, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Whether each answer on the validation items agrees with their labels, which are off the truth now and then."""
    rows = world.validation
    is_off = rng.random(len(rows)) < world.noise
    is_lucky = rng.random(len(rows)) < 1 / max(1, world.num_classes - 1)

    def observed(right: Bools) -> np.ndarray:
        return np.where(is_off, ~right[rows] & is_lucky, right[rows]).astype(float)

    arms = {
        "prompt": world.prompt,
        "format": world.asked_format,
        "context": world.asked_context,
        "placebo": world.asked_placebo,
        "tuned context": world.tuned_context,
        "tuned placebo": world.tuned_placebo,
        "rag": world.rag,
    }
    tuned = {f"tuned {share}": outcomes for share, outcomes in world.tuned.items()}
    return {name: observed(right) for name, right in (arms | tuned).items()}


def truth_of(world: World, seed: int) -> Truth:
    """The worth of every action, and which are as good as the best.

    Where the best action needs training and the samples at hand would rarely show its gain (a paired test finds it in
    less than a fifth of samples of their size), getting more samples is the right action; between a fifth and four
    fifths both are. Below 80 samples a prompt that is best may be left for better data too.
    """
    scores = {name: float(outcomes.mean()) for name, outcomes in _arms(world).items()}
    worth = _worth(world, scores)
    best = max(worth, key=lambda action: worth[action])
    accepted = {action for action, value in worth.items() if value >= worth[best] - TIE}
    power = _power(world, best, seed)
    if best.startswith("fine-tune") and not _saves(world) and worth[best] - worth["prompt"] > TIE:
        if power < 0.8:
            accepted.add("collect data first")
        if power < 0.2:
            accepted = {a for a in accepted if not a.startswith("fine-tune")}
            best = "collect data first"
    if world.num_validation < 80 and best != "do not automate":
        accepted.add("collect data first")
    return Truth(worth, scores, best, frozenset(accepted), power)


def _arms(world: World) -> dict[str, Bools]:
    return {
        "prompt": world.prompt,
        "constrained decoding": world.constrained,
        "RAG": world.rag,
        "fine-tune": world.tuned[1.0],
        "fine-tune + RAG": world.both[1.0],
        "twice the data": world.tuned[2.0],
        "twice the data + RAG": world.both[2.0],
    }


def _worth(world: World, scores: dict[str, float]) -> dict[Action, float]:
    """Each action's worth in points of score beyond its costs, as people will judge its answers.

    Who trains now can label more later; who labels first, or mends the rubric first, waits a part of the life for it.
    The one serves the first model meanwhile, the other the best that needs no training.
    """
    found: dict[Action, float] = {}
    for name in ("prompt", "constrained decoding", "RAG", "fine-tune", "fine-tune + RAG"):
        found[name] = _value(world, scores[name], name, world.noise)
    mended = max(_value(world, scores[name], name, world.noise / 5) for name in found) - world.effort["rubric"]
    later: dict[Action, float] = {
        "fine-tune": _value(world, scores["twice the data"], "fine-tune", world.noise) - _labels(world),
        "fine-tune + RAG": _value(world, scores["twice the data + RAG"], "fine-tune + RAG", world.noise)
        - _labels(world),
    }
    light = max(found[name] for name in ("prompt", "constrained decoding", "RAG"))
    first = max(*later.values(), mended if world.noise > 0 else -math.inf)
    wait = world.effort["wait"]
    for name, value in later.items():
        found[name] = max(found[name], (1 - wait) * value + wait * found[name])
    found["collect data first"] = (1 - wait) * first + wait * light
    if world.stakes is not None:
        found["do not automate"] = 0.0
    return found


def _value(world: World, score: float, arm: str, noise: float) -> float:
    good = judged(score, noise, world.num_classes)
    if world.stakes is None:
        return min(good, world.target or 1.0) - world.effort.get(arm, 0.0)
    s = world.stakes
    span = s.value_per_success_usd + s.cost_per_failure_usd
    price = s.usd_per_query
    once = monthly = 0.0
    if arm == "constrained decoding":
        once += s.constrained_setup_usd
    if "RAG" in arm:
        price += (s.rag_usd_per_query or 0.0) - s.usd_per_query
        once += s.rag_setup_usd
    if "fine-tune" in arm:
        price += (s.tuned_usd_per_query or 0.0) - s.usd_per_query
        trainings = 1 + (world.life_months * MONTH_DAYS / s.retrain_every_days if s.retrain_every_days else 0)
        once += s.training_usd * trainings + s.people_usd
        monthly += s.hosting_usd_per_month
    answers = s.queries_per_month * world.life_months
    return good - (s.cost_per_failure_usd + price) / span - (once + monthly * world.life_months) / (answers * span)


def _labels(world: World) -> float:
    """What labelling as many samples again costs, in points."""
    if world.stakes is None:
        return world.effort["labels"]
    s = world.stakes
    answers = s.queries_per_month * world.life_months * (s.value_per_success_usd + s.cost_per_failure_usd)
    return (s.label_usd_per_item * world.num_train + s.training_usd) / answers


def _saves(world: World) -> bool:
    """Whether the tuned query pays for itself whatever it scores."""
    s = world.stakes
    if s is None or s.tuned_usd_per_query is None:
        return False
    saved = (s.usd_per_query - s.tuned_usd_per_query) * s.queries_per_month - s.hosting_usd_per_month
    return saved * world.life_months > s.training_usd + s.people_usd


def _power(world: World, best: Action, seed: int) -> float:
    """How often a paired test on as many samples as the user has shows that the best action beats the prompt."""
    arms = _arms(world)
    if best not in arms or best == "prompt":
        return 1.0
    rng = np.random.default_rng([seed, 99])
    difference = arms[best].astype(float) - world.prompt.astype(float)
    draws = rng.choice(difference, (TRIALS, world.num_validation))
    error = np.maximum(draws.std(axis=1, ddof=1), 1e-9) / math.sqrt(world.num_validation)
    return float((draws.mean(axis=1) - 1.96 * error > 0).mean())


# --- synthetic ------------------------------------------------------------------------------------------------------


def synthetic(seed: int) -> World:
    """A world of one archetype, all its rates drawn anew."""
    rng = np.random.default_rng([2026, seed])
    kind = ARCHETYPES[seed % len(ARCHETYPES)]
    item = rng.random((12, POOL))
    right = rng.uniform(0.86, 0.985) if kind == "good prompt" else rng.uniform(0.3, 0.9)
    if kind == "cheaper query":
        right = rng.uniform(0.6, 0.95)
    facts, layout, skill, _ = _causes(kind, rng)
    prompt = item[0] < right
    cause = item[1]
    is_fact = ~prompt & (cause < facts)
    is_layout = ~prompt & (cause >= facts) & (cause < facts + layout)
    is_skill = ~prompt & (cause >= facts + layout) & (cause < facts + layout + skill)
    chance = rng.uniform(0.0, 0.06)
    told = item[4] < rng.uniform(0.85, 1.0)
    asked_format = prompt | (is_layout & (item[2] < rng.uniform(0.8, 1.0))) | (item[3] < chance)
    asked_context = prompt | (is_fact & told) | (item[5] < chance)
    asked_placebo = prompt | (item[6] < chance)
    forced = is_layout & (item[2] < 0.97)
    constrained = (prompt & (item[7] > rng.uniform(0.0, 0.01))) | forced
    found = is_fact & (item[4] < rng.uniform(0.45, 0.98))
    kept = prompt & (item[8] > rng.uniform(0.0, 0.03))
    rag = kept | found
    num_train = round(10 ** rng.uniform(2.2, 4.0))
    tuned = _learned(kind, rng, num_train, item, prompt, is_skill, is_layout, is_fact)
    both = {share: tuned[share] | (found & (item[8] > 0.03)) for share in (1.0, 2.0)}
    num_validation = _validation_size(kind, rng)
    life_months = float(rng.uniform(6, 18))
    stakes = (
        _stakes(kind, life_months, rng) if kind in ("costly failures", "cheaper query") or rng.random() < 0.4 else None
    )
    world = World(
        name=f"synthetic-{seed}",
        archetype=kind,
        source="synthetic",
        prompt=prompt,
        asked_format=asked_format,
        asked_context=asked_context,
        asked_placebo=asked_placebo,
        tuned_context=tuned[1.0] | (is_fact & told) | (item[5] < chance),
        tuned_placebo=tuned[1.0] | (item[6] < chance),
        constrained=constrained,
        rag=rag,
        both=both,
        tuned=tuned,
        num_train=num_train,
        num_validation=num_validation,
        validation=rng.choice(POOL, num_validation, replace=False),
        num_classes=int(rng.integers(3, 30)),
        noise=_noise(kind, rng),
        is_retrieval_measured=bool(rng.random() < 0.5),
        target=_target(kind, right, rng) if stakes is None else None,
        stakes=stakes,
        life_months=life_months,
        effort=efforts(rng),
    )
    return with_agreement(world, rng)


def with_agreement(world: World, rng: np.random.Generator) -> World:
    """The world with two people's labels on 50 items, where people were asked: always where they often disagree."""
    from foretune.stats.agreement import krippendorff_alpha

    if world.noise < 0.1 and rng.random() < 0.5:
        return world
    truth = rng.integers(0, world.num_classes, 50)
    votes = {}
    for place, label in enumerate(truth):
        given = [int(label), int(label)]
        for person in (0, 1):
            if rng.random() < world.noise:
                given[person] = int((label + rng.integers(1, world.num_classes)) % world.num_classes)
        votes[str(place)] = {"ann": str(given[0]), "bob": str(given[1])}
    world.agreement = krippendorff_alpha(votes)
    return world


def efforts(rng: np.random.Generator) -> dict[str, float]:
    """What each action costs this team, in points of score, where nobody speaks of money; the procedure is not told."""
    rag, tune = rng.uniform(0.005, 0.03), rng.uniform(0.01, 0.035)
    return {
        "constrained decoding": rng.uniform(0.001, 0.01),
        "RAG": rag,
        "fine-tune": tune,
        "fine-tune + RAG": rag + tune,
        "labels": rng.uniform(0.01, 0.04),
        "rubric": rng.uniform(0.04, 0.12),
        "wait": rng.uniform(0.1, 0.3),  # of the life, until more is labelled
    }


def _causes(kind: str, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Shares of the failures: facts, format, skill, and what nothing mends."""
    weights = {
        "format": (0.1, 1.6, 0.4, 0.3),
        "facts": (1.6, 0.1, 0.4, 0.3),
        "skill": (0.15, 0.2, 1.6, 0.4),
        "skill and facts": (1.0, 0.1, 1.0, 0.2),
        "flat": (0.1, 0.1, 0.3, 2.0),
        "more data": (0.1, 0.2, 1.8, 0.1),
    }.get(kind, (0.6, 0.5, 0.8, 0.5))
    drawn = rng.dirichlet(6 * np.array(weights))
    return tuple(float(share) for share in drawn)  # type: ignore[return-value]


def _learned(
    kind: str,
    rng: np.random.Generator,
    num_train: int,
    item: np.ndarray,
    prompt: Bools,
    is_skill: Bools,
    is_layout: Bools,
    is_fact: Bools,
) -> dict[float, Bools]:
    """Outcomes after training on parts of the data: a power law for each cause, old skills lost with little data."""
    half = num_train * rng.uniform(1.5, 6) if kind == "more data" else 10 ** rng.uniform(1.8, 3.6)
    power, most = rng.uniform(0.5, 1.2), rng.uniform(0.55, 0.98)
    layout_half, lost = rng.uniform(20, 200), rng.uniform(0.01, 0.12)
    memorised = rng.uniform(0.0, 0.15)
    found = {}
    for share in SHARES:
        size = num_train * share
        skill = most * size**power / (size**power + half**power)
        layout = size / (size + layout_half)
        forgotten = lost * half / (half + size)
        run = rng.normal(0, 0.015)  # of this training run
        learned = (
            (prompt & (item[9] > forgotten - run / 2))
            | (is_skill & (item[10] < skill + run))
            | (is_layout & (item[11] < layout))
            | (is_fact & (item[10] < memorised))
        )
        found[share] = learned
    return found


def _validation_size(kind: str, rng: np.random.Generator) -> int:
    return int(rng.integers(15, 60)) if kind == "few labels" else int(10 ** rng.uniform(2.0, 2.95))


def _noise(kind: str, rng: np.random.Generator) -> float:
    if kind == "raters disagree":
        return float(rng.uniform(0.12, 0.4))
    return float(rng.choice([0.0, 0.0, 0.01, 0.03]))


def _target(kind: str, right: float, rng: np.random.Generator) -> float | None:
    if kind == "good prompt" and rng.random() < 0.7:
        return float(min(0.97, right + rng.uniform(-0.1, 0.03)))
    return float(rng.uniform(0.6, 0.97)) if rng.random() < 0.4 else None


def _stakes(kind: str, life_months: float, rng: np.random.Generator) -> Stakes:
    """What answers are worth and arms cost; half of the users say how long the model will serve."""
    success = 10 ** rng.uniform(-1.2, 0.8)
    ratio = rng.uniform(2, 12) if kind == "costly failures" else rng.uniform(0, 2)
    query = 10 ** rng.uniform(-3.2, -1.7)
    cheap = kind == "cheaper query"
    if cheap:
        query = 10 ** rng.uniform(-2.0, -1.0)
    return Stakes(
        value_per_success_usd=success,
        cost_per_failure_usd=success * ratio,
        queries_per_month=10 ** (rng.uniform(5, 6.5) if cheap else rng.uniform(3.3, 6)),
        usd_per_query=query,
        rag_usd_per_query=query * rng.uniform(1.1, 2),
        tuned_usd_per_query=query * (rng.uniform(0.1, 0.3) if cheap else rng.uniform(0.5, 1.5)),
        hosting_usd_per_month=rng.uniform(0, 1500),
        constrained_setup_usd=rng.uniform(0, 1000),
        rag_setup_usd=rng.uniform(2e3, 2e4),
        training_usd=rng.uniform(5, 500),
        people_usd=rng.uniform(2e3, 3e4),
        label_usd_per_item=10 ** rng.uniform(-1.3, 0.3),
        retrain_every_days=float(rng.choice([0.0, 90.0, 180.0])),
        **({"life_months": life_months, "max_payback_days": life_months * MONTH_DAYS} if rng.random() < 0.5 else {}),
    )
