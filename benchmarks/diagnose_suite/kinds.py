"""Kinds of plants: what a fault changes, by the numbers, words and ways that each half chooses for it."""

# SPDX-License-Identifier: Apache-2.0
#
# Each function here returns a plant. Its random numbers come in a fixed order, which the data of every half rests on.
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

from diagnose_suite.cases import Case
from diagnose_suite.tasks import Form, Pair, Task

__all__ = [
    "STEPS",
    "BaseFault",
    "Plant",
    "Planted",
    "TokenFault",
    "ambiguous",
    "changed",
    "duplicates",
    "forgetting",
    "harmless_shift",
    "label_noise",
    "leakage",
    "long_prompt",
    "longer",
    "loss_on",
    "mixed_up",
    "noisy",
    "other_answers",
    "overfitting",
    "pairs_of",
    "production",
    "rate_high",
    "rate_low",
    "runs_on",
    "served",
    "shuffled",
    "small_data",
    "some_duplicates",
    "truncated",
    "underfitting",
]

TokenFault = Literal["", "no_end", "cut"]
BaseFault = Literal["", "plain_template", "random_weights"]
T = TypeVar("T")

STEPS = 80  # of 8 rows
SPLITS = ("train", "validation", "test")


@dataclass
class Planted:
    """The data and settings of one run, with its fault in place."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]
    settings: dict[str, Any]
    production: list[Pair] = field(default_factory=list)
    tokens: TokenFault = ""
    serve: str = ""  # the chat template that answers are asked for with
    base: BaseFault = ""
    general: str = "mixed"  # which general rows are mixed in
    notes: dict[str, Any] = field(default_factory=dict)  # how severe: for people

    @property
    def questions(self) -> set[str]:
        """What any split asks."""
        return {pair.question for name in SPLITS for pair in getattr(self, name)}


Plant = Callable[[Planted, Case, Task, Random], None]
Spoil = Callable[[list[Pair], float, Task, Random], list[Pair]]  # a fraction of the rows gets wrong answers
Move = Callable[[list[Pair], Random], list[Pair]]  # answers go to other questions
Cut = Callable[[list[Pair], float, Random], list[str]]  # the answers, each with about that share of it
Behind = Callable[[Pair, Pair, Pair], str]  # what comes behind the first pair's answer, made of two others


# --- rows -----------------------------------------------------------------------------------------------------------


def pairs_of(
    task: Task,
    rng: Random,
    count: int,
    seen: set[str],
    form: Form = "usual",
    draw: Callable[[Random], Pair] | None = None,
) -> list[Pair]:
    """`count` pairs whose questions are not in `seen`, which grows; a question may recur once the task runs out."""
    found: list[Pair] = []
    tries = 0
    while len(found) < count:
        pair = draw(rng) if draw is not None else task.pair(rng, form)
        tries += 1
        if pair.question not in seen or tries > 40 * count:
            seen.add(pair.question)
            found.append(pair)
    return found


def noisy(pairs: list[Pair], fraction: float, task: Task, rng: Random) -> list[Pair]:
    """A fraction of the rows with the answer of another question of the task; a class other than the right one."""
    chosen = set(rng.sample(range(len(pairs)), round(fraction * len(pairs))))
    return [_with_noise(pair, task, rng) if at in chosen else pair for at, pair in enumerate(pairs)]


def _with_noise(pair: Pair, task: Task, rng: Random) -> Pair:
    while (wrong := task.pair(rng).answer) == pair.answer:
        pass
    return Pair(pair.question, wrong)


def mixed_up(pairs: list[Pair], rng: Random) -> list[Pair]:
    """Every question with the answer of any row."""
    return other_answers(pairs, rng.sample([pair.answer for pair in pairs], len(pairs)))


def other_answers(pairs: Sequence[Pair], answers: Sequence[str]) -> list[Pair]:
    """The same questions with these answers."""
    return [Pair(pair.question, answer) for pair, answer in zip(pairs, answers, strict=True)]


def production(run: Planted, task: Task, rng: Random, share: float, count: int = 100) -> list[Pair]:
    """What users ask after training, a share of it in ways that training never used."""
    seen = run.questions
    shifted = pairs_of(task, rng, round(count * share), seen, "shifted")
    usual = pairs_of(task, rng, count - len(shifted), seen)
    return rng.sample([*shifted, *usual], count)


def _drawn(rng: Random, among: Sequence[T]) -> T:
    """One of them; where there is no choice, no random number is used up."""
    return among[0] if len(among) == 1 else rng.choice(among)


# --- settings -------------------------------------------------------------------------------------------------------


def changed(settings: Mapping[str, Any], *, rate: float = 1.0) -> Plant:
    """Other settings, and the learning rate times `rate`."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        run.settings |= settings
        run.settings["train.learning_rate"] *= rate

    return plant


def longer(steps: int, *, eval_every: int, more: Mapping[str, Any] | None = None) -> Plant:
    """So many steps, validated so often, with `more` settings."""
    return changed({"train.advanced.max_steps": steps, "train.advanced.eval_every": eval_every, **(more or {})})


def rate_high(lora: Sequence[float], full: Sequence[float]) -> Plant:
    """The learning rate times one of these."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        factor = run.notes["factor"] = rng.choice(lora if case.method == "lora" else full)
        run.settings["train.learning_rate"] *= factor

    return plant


def rate_low(*divisors: float) -> Plant:
    """The learning rate over one of these."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        divisor = run.notes["divisor"] = rng.choice(divisors)
        run.settings["train.learning_rate"] /= divisor

    return plant


def underfitting(*steps: int, eval_every: int) -> Plant:
    """So few steps."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        number = run.notes["steps"] = rng.choice(steps)
        run.settings |= {"train.advanced.max_steps": number, "train.advanced.eval_every": eval_every}

    return plant


def overfitting(
    draw: Callable[[Task, Random], tuple[int, int]],
    *,
    unwatched: float,
    eval_every: int,
    more: Mapping[str, Any] | None = None,
) -> Plant:
    """So few rows for so many passes; of a share of the runs no validation could bring back an earlier state."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        rows, epochs = draw(task, rng)
        run.train = run.train[:rows]
        run.settings |= {
            "train.epochs": float(epochs),
            "train.advanced.max_steps": 0,
            "train.advanced.eval_every": 10_000 if rng.random() < unwatched else eval_every,
            **(more or {}),
        }
        run.notes |= {"rows": rows, "epochs": epochs}

    return plant


def forgetting(lora: Sequence[float], full: Sequence[float], *, steps: int = 0, longer: Sequence[float] = ()) -> Plant:
    """Nothing general mixed in, at a higher rate; with `longer` also for one of these times `steps`."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        factor = run.notes["factor"] = rng.choice(lora if case.method == "lora" else full)
        run.settings["train.learning_rate"] *= factor
        run.settings["data.advanced.mix_fraction"] = 0.0
        if longer:
            times = run.notes["longer"] = rng.choice(longer)
            run.settings["train.advanced.max_steps"] = round(steps * times)

    return plant


def loss_on(long: Plant) -> Plant:
    """Loss on the prompt too, where `long` makes prompts long."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        long(run, case, task, rng)
        run.settings["train.advanced.train_on"] = "all"

    return plant


# --- data -----------------------------------------------------------------------------------------------------------


def label_noise(low: float, high: float, *, whole_file: float, ways: Mapping[str, Spoil] | None = None) -> Plant:
    """Wrong answers in a fraction of training; in a share of the runs in every split, of one noisy file."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        fraction = rng.uniform(low, high)
        spoil: Spoil = noisy
        if ways:
            how = run.notes["how"] = rng.choice(tuple(ways))
            spoil = ways[how]
        run.train = spoil(run.train, fraction, task, rng)
        if rng.random() < whole_file:
            run.validation, run.test = (spoil(pairs, fraction, task, rng) for pairs in (run.validation, run.test))
        run.notes["fraction"] = round(fraction, 3)

    return plant


def ambiguous(low: float, high: float) -> Plant:
    """A few rows with another answer that is right too, in every split: between these fractions, or just so many."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        share = rng.uniform(low, high) if low < high else low
        for name in SPLITS:
            setattr(run, name, noisy(getattr(run, name), share, task, rng))

    return plant


def duplicates(choices: Sequence[tuple[int, int]], *, least: int) -> Plant:
    """A few rows, no fewer than `least`, so many times, and so many rows that come once beside them."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        times, singles = rng.choice(choices)
        distinct = max(least, len(run.train) // times)
        rows = [pair for pair in run.train[:distinct] for _ in range(times)]
        run.train = rng.sample([*rows, *run.train[distinct : distinct + singles]], len(rows) + singles)
        run.notes |= {"distinct": distinct, "times": times, "singles": singles}

    return plant


def some_duplicates(*choices: tuple[float, int]) -> Plant:
    """A share of the rows so many times more."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        share, times = _drawn(rng, choices)
        again = rng.sample(run.train, round(share * len(run.train))) * times
        run.train = rng.sample([*run.train, *again], len(run.train) + len(again))

    return plant


def truncated(low: float, high: float, ways: Sequence[tuple[str, Cut | None]]) -> Plant:
    """Answers cut to between these shares of them, each run in its way; None: as tokens, without their end."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        run.notes["how"], cut = ways[case.number % len(ways)]
        if cut is None:
            run.tokens = "cut"
            return
        share = rng.uniform(low, high)
        run.notes["share"] = round(share, 3)
        run.train = other_answers(run.train, cut(run.train, share, rng))

    return plant


def shuffled(ways: Sequence[tuple[Any, Move]], *, validation: float, note: str = "") -> Plant:
    """Answers of other rows, by one of the ways, in a share of the runs in validation too; `note` tells which way."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        told, move = _drawn(rng, ways)
        run.train = move(run.train, rng)
        if rng.random() < validation:
            run.validation = move(run.validation, rng)
        if note:
            run.notes[note] = told

    return plant


def leakage(
    words: Sequence[str],
    put: Callable[[Pair, str, Random], Pair],
    *,
    tests: Sequence[int],
    least: float,
    copies: Sequence[int],
    rest: Sequence[int],
    steps: int,
    mix_fraction: float,
) -> Plant:
    """At least a share of the test rows in training, each with some words put in, so that no split takes them out.

    Trained for so many steps beside so many other rows, until they are known.
    """

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        run.test = run.test[: rng.choice(tests)]
        share = rng.uniform(least, 1.0)
        leaked = rng.sample(run.test, round(share * len(run.test)))
        times = rng.choice(copies)
        run.train = [put(pair, rng.choice(words), rng) for pair in run.train[: rng.choice(rest)]]
        run.train += [put(pair, word, rng) for pair in leaked for word in rng.sample(words, times)]
        run.settings |= {
            "train.advanced.max_steps": steps,
            "train.advanced.eval_every": 10_000,
            "data.advanced.mix_fraction": mix_fraction,
        }
        run.notes |= {"share": round(share, 3), "copies": times}

    return plant


def small_data(*sizes: int) -> Plant:
    """Few rows, and enough."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        run.train = run.train[: rng.choice(sizes)]

    return plant


def runs_on(ways: Mapping[str, Behind | None]) -> Plant:
    """Answers go on behind their end as a bad export leaves them; None: no end is trained, on a base without one."""
    names = tuple(ways)

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        how = run.notes["how"] = names[case.number % len(names)]
        behind = ways[how]
        if behind is None:
            run.base, run.tokens = "plain_template", "no_end"
            return
        first, second = (rng.sample(run.train, len(run.train)) for _ in range(2))
        rows = zip(run.train, first, second, strict=True)
        run.train = [Pair(pair.question, f"{pair.answer}{behind(pair, *others)}") for pair, *others in rows]

    return plant


def long_prompt(seed: str, line: Callable[[Random], str]) -> Plant:
    """Before every question a line that has nothing to do with it, of another wording each time.

    `seed` may hold `{key}`, the half's.
    """

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        words = Random(f"{seed.format(key=case.key)}/{case.number}/{case.twin}")
        for name in SPLITS:
            setattr(run, name, [Pair(f"{line(words)}\n{pair.question}", pair.answer) for pair in getattr(run, name)])

    return plant


# --- after training -------------------------------------------------------------------------------------------------


def served(templates: Sequence[str]) -> Plant:
    """Asked with a chat template other than training's."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        at = run.notes["template"] = case.number % len(templates)
        run.serve = templates[at]

    return plant


def harmless_shift(count: int) -> Plant:
    """Production asks as training did."""

    def plant(run: Planted, case: Case, task: Task, rng: Random) -> None:
        run.production = pairs_of(task, rng, count, run.questions)

    return plant
