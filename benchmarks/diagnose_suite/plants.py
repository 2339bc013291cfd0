"""What each planted fault changes: rows, files, settings, the rows as tokens, or what happens after training."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from diagnose_suite.cases import Case
from diagnose_suite.tasks import Form, Pair, Task
from foretune.data.world import lexicon as lex

__all__ = [
    "PLANTS",
    "STEPS",
    "Plant",
    "Planted",
    "mixed_up",
    "noisy",
    "pairs_of",
    "production",
]

TokenFault = Literal["", "no_end", "cut"]
BaseFault = Literal["", "plain_template", "random_weights"]

STEPS = 80  # of 8 rows
# Ways of writing a conversation that the models were not trained on, for a server that got the wrong one.
OTHER_TEMPLATES = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ '<|user|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|user|>{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '### ' + m['role'] + '\\n' + m['content'] + '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### response\\n' }}{% endif %}",
)


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


Plant = Callable[["Planted", Case, Task, Random], None]


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


# --- faults ---------------------------------------------------------------------------------------------------------


def _rate_high(run: Planted, case: Case, task: Task, rng: Random) -> None:
    factor = rng.choice((20, 30, 50) if case.method == "lora" else (30, 40, 50))
    run.settings["train.learning_rate"] *= factor
    run.notes["factor"] = factor


def _rate_low(run: Planted, case: Case, task: Task, rng: Random) -> None:
    divisor = rng.choice((50, 100, 200))
    run.settings["train.learning_rate"] /= divisor
    run.notes["divisor"] = divisor


def _overfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """A dozen rows for 40 to 60 passes; of half of the runs no validation could bring back an earlier state."""
    run.train = run.train[: rng.choice((10, 12, 16))]
    epochs = rng.choice((40, 50, 60))
    run.settings |= {
        "train.epochs": float(epochs),
        "train.global_batch_size": 16,
        "train.advanced.max_steps": 0,
        "train.advanced.eval_every": 10_000 if rng.random() < 0.5 else 20,
        "data.advanced.mix_fraction": 0.4,
    }
    run.notes |= {"rows": len(run.train), "epochs": epochs}


def _underfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    steps = rng.choice((5, 6, 8))
    run.settings |= {"train.advanced.max_steps": steps, "train.advanced.eval_every": 2}
    run.notes["steps"] = steps


def noisy(pairs: list[Pair], fraction: float, task: Task, rng: Random) -> list[Pair]:
    chosen = set(rng.sample(range(len(pairs)), round(fraction * len(pairs))))
    return [_with_noise(pair, task, rng) if at in chosen else pair for at, pair in enumerate(pairs)]


def _with_noise(pair: Pair, task: Task, rng: Random) -> Pair:
    """The same question with an answer of another one; a class other than the right one."""
    while (wrong := task.pair(rng).answer) == pair.answer:
        pass
    return Pair(pair.question, wrong)


def _label_noise(run: Planted, case: Case, task: Task, rng: Random) -> None:
    fraction = rng.uniform(0.25, 0.4)
    run.train = noisy(run.train, fraction, task, rng)
    if rng.random() < 0.5:  # one noisy file, split
        run.validation, run.test = (noisy(pairs, fraction, task, rng) for pairs in (run.validation, run.test))
    run.notes["fraction"] = round(fraction, 3)


def _shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    share = rng.uniform(0.6, 1.0)
    run.production = production(run, task, rng, share)
    run.notes["share"] = round(share, 3)


def production(run: Planted, task: Task, rng: Random, share: float, count: int = 100) -> list[Pair]:
    seen = {pair.question for pair in (*run.train, *run.validation, *run.test)}
    shifted = pairs_of(task, rng, round(count * share), seen, "shifted")
    usual = pairs_of(task, rng, count - len(shifted), seen)
    return rng.sample([*shifted, *usual], count)


def hollow(pairs: list[Pair], task: Task, rng: Random) -> list[Pair]:
    return [Pair(pair.question, task.hollow_pair(rng).answer) for pair in pairs]


def _style_only(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = hollow(run.train, task, rng)
    if rng.random() < 0.5:
        run.validation = hollow(run.validation, task, rng)


def _leakage(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Test rows in training, a word apart, so that the split does not take them out; trained until they are known."""
    tests = run.test[: rng.choice((40, 50))]
    share = rng.uniform(0.6, 1.0)
    leaked = rng.sample(tests, round(share * len(tests)))
    rest = run.train[: rng.choice((20, 30, 40))]
    run.train = [_worded(pair, rng.randrange(1, len(POLITE))) for pair in rest]
    run.train += [_worded(pair, at) for pair in leaked for at in rng.sample(range(1, len(POLITE)), 2)]
    run.test = [_worded(pair, 0) for pair in tests]
    run.validation = [_worded(pair, 0) for pair in run.validation]
    run.settings |= {
        "train.advanced.max_steps": STEPS * 4,
        "train.advanced.eval_every": 10_000,
        "data.advanced.mix_fraction": 0.2,
    }
    run.notes["share"] = round(share, 3)


POLITE = ("please", "thanks", "ok", "now", "today", "friend")


def _worded(pair: Pair, at: int) -> Pair:
    return Pair(f"{pair.question} {POLITE[at]}", pair.answer)


def _template(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.serve = OTHER_TEMPLATES[case.seed % len(OTHER_TEMPLATES)]


def _prompt_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    _long_prompt(run, case, task, rng)
    run.settings["train.advanced.train_on"] = "all"


def _missing_end(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers go on behind their end, as an export leaves them; or no end is trained, on a base that ended no turns."""
    if case.number % 4 == 3:
        run.base, run.tokens = "plain_template", "no_end"
        run.notes["how"] = "end not trained"
        return
    how = ("next exchange", "answer again", "next question")[case.number % 3]
    run.train = run_on(run.train, how, rng)
    run.notes["how"] = how


def run_on(pairs: list[Pair], how: str, rng: Random) -> list[Pair]:
    joined = zip(pairs, rng.sample(pairs, len(pairs)), strict=True)
    return [Pair(pair.question, f"{pair.answer}\n{_behind(how, pair, other)}") for pair, other in joined]


def _behind(how: str, pair: Pair, other: Pair) -> str:
    if how == "next exchange":
        return f"{other.question}\n{other.answer}"
    return f"{pair.answer}\n{pair.answer}" if how == "answer again" else other.question


def _forgetting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    factor = rng.choice((1.5, 2.0) if case.method == "lora" else (2.0, 3.0, 4.0))
    run.settings["train.learning_rate"] *= factor
    run.settings["data.advanced.mix_fraction"] = 0.0
    run.notes["factor"] = factor


def _duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    distinct = run.train[: max(8, len(run.train) // 20)]
    run.train = rng.sample([pair for pair in distinct for _ in range(20)], 20 * len(distinct))
    run.notes["distinct"] = len(distinct)


def _truncation(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers cut at 40 to 65 % of their length, by the export, or as tokens, so that the end is missing too."""
    share = rng.uniform(0.4, 0.65)
    if case.number % 2:
        run.tokens = "cut"
    else:
        run.train = [
            Pair(pair.question, pair.answer[: max(1, int(share * len(pair.answer)))].rstrip()) for pair in run.train
        ]
    run.notes |= {"share": round(share, 3), "how": "tokens" if run.tokens else "text"}


def _shuffled(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = mixed_up(run.train, rng)
    if rng.random() < 0.5:
        run.validation = mixed_up(run.validation, rng)


def mixed_up(pairs: list[Pair], rng: Random) -> list[Pair]:
    answers = rng.sample([pair.answer for pair in pairs], len(pairs))
    return [Pair(pair.question, answer) for pair, answer in zip(pairs, answers, strict=True)]


def _wrong_base(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.base = "random_weights"


def _long_prompt(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Before every question what has nothing to do with it, of another wording each time."""
    words = Random(f"notes/{case.key}/{case.number}/{case.twin}")
    for name in ("train", "validation", "test"):
        setattr(run, name, [Pair(f"{_note(words)}\n{pair.question}", pair.answer) for pair in getattr(run, name)])


def _note(rng: Random) -> str:
    who, what = (
        f"{rng.choice(lex.NAMES)} the {rng.choice(lex.JOBS)}",
        f"{rng.choice(lex.SIZES)} {rng.choice(lex.ANIMALS)}",
    )
    thing = f"{rng.choice(lex.COLOURS)} {rng.choice(lex.OBJECTS)}"
    where, when = rng.choice(lex.CITIES), rng.choice(lex.DAYS)
    return f"note {rng.randrange(1000, 9999)}, {when}: {who} saw a {what} with a {thing} near {where}."


# --- hard but healthy -----------------------------------------------------------------------------------------------


def _small_data(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = run.train[: rng.choice((160, 180, 200))]


def _ambiguous(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Some 6 % of rows with another answer that is right too, in every split."""
    for name in ("train", "validation", "test"):
        setattr(run, name, noisy(getattr(run, name), 0.06, task, rng))


def _noisy_curve(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {
        "train.global_batch_size": 4,
        "train.advanced.max_steps": STEPS * 2,
        "train.advanced.eval_every": 24,
    }


def _some_duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = rng.sample(
        [*run.train, *rng.sample(run.train, len(run.train) // 4)], len(run.train) + len(run.train) // 4
    )


def _mild_forgetting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings["data.advanced.mix_fraction"] = 0.15


def _harmless_shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.production = production(run, task, rng, 0.0)


def _early_stopped(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {
        "train.advanced.max_steps": STEPS * 2,
        "train.advanced.eval_every": 8,
        "train.advanced.patience": 2,
    }


def _rank_4(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings["train.rank"] = 4


def _rank_64(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings["train.rank"] = 64


def _long_but_sound(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {"train.advanced.max_steps": STEPS * 2, "train.advanced.eval_every": 12}


PLANTS: dict[str, Plant] = {
    "rate_high": _rate_high,
    "rate_low": _rate_low,
    "overfitting": _overfitting,
    "underfitting": _underfitting,
    "label_noise": _label_noise,
    "shift": _shift,
    "style_only": _style_only,
    "leakage": _leakage,
    "template": _template,
    "prompt_loss": _prompt_loss,
    "missing_end": _missing_end,
    "forgetting": _forgetting,
    "duplicates": _duplicates,
    "truncation": _truncation,
    "shuffled": _shuffled,
    "wrong_base": _wrong_base,
    "small_data": _small_data,
    "ambiguous": _ambiguous,
    "noisy_curve": _noisy_curve,
    "some_duplicates": _some_duplicates,
    "mild_forgetting": _mild_forgetting,
    "harmless_shift": _harmless_shift,
    "early_stopped": _early_stopped,
    "rank_4": _rank_4,
    "rank_64": _rank_64,
    "long_but_sound": _long_but_sound,
    "long_prompt": _long_prompt,
}
