"""The plants of the half that no threshold has seen, where they differ: other sizes, words, templates and ways."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite.cases import Case
from diagnose_suite.plants import STEPS, Plant, Planted, mixed_up, noisy, pairs_of, production
from diagnose_suite.tasks import Pair, Task
from foretune.data.world import lexicon as lex

__all__ = ["CHECK_PLANTS", "THIRD_PLANTS"]

# Other ways of writing a conversation than those that development saw.
SERVING_TEMPLATES = (
    "{{ bos_token }}{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</' + m['role'] + '>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ m['content'] + '\\n\\n' }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ ('Q: ' if m['role'] == 'user' else '') + m['content'] + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] | upper + '] ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[REPLY] ' }}{% endif %}",
)


def _rate_high(run: Planted, case: Case, task: Task, rng: Random) -> None:
    factor = rng.choice((25, 30, 40, 60))
    run.settings["train.learning_rate"] *= factor
    run.notes["factor"] = factor


def _rate_low(run: Planted, case: Case, task: Task, rng: Random) -> None:
    divisor = rng.choice((60, 100, 150, 300))
    run.settings["train.learning_rate"] /= divisor
    run.notes["divisor"] = divisor


NEEDS_ROWS = ("topic", "urgency", "hours", "painting", "freight")  # tasks that 60 rows do not teach
MANY_PASSES = ((60, 20), (60, 24), (30, 32), (20, 40))  # rows and epochs
VERY_MANY_PASSES = ((10, 60), (12, 60), (16, 50))


def _overfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Few rows for many passes, or 60 where more than 60 are needed; mostly nothing brings an earlier state back."""
    sizes = MANY_PASSES if task.name in NEEDS_ROWS else VERY_MANY_PASSES
    rows, epochs = rng.choice(sizes)
    run.train = run.train[:rows]
    run.settings |= {
        "train.epochs": float(epochs),
        "train.advanced.max_steps": 0,
        "train.advanced.eval_every": 10_000 if rng.random() < 0.6 else 24,
    }
    run.notes |= {"rows": rows, "epochs": epochs}


def _underfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    steps = rng.choice((4, 6, 7, 9))
    run.settings |= {"train.advanced.max_steps": steps, "train.advanced.eval_every": 3}
    run.notes["steps"] = steps


def _label_noise(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers of other questions: of any, or swapped among some rows of the file, as when lines got mixed up."""
    fraction = rng.uniform(0.25, 0.42)
    how = rng.choice(("another answer", "swapped"))
    spoil = noisy if how == "another answer" else _swapped
    run.train = spoil(run.train, fraction, task, rng)
    if rng.random() < 0.4:  # one noisy file, split
        run.validation, run.test = (spoil(pairs, fraction, task, rng) for pairs in (run.validation, run.test))
    run.notes |= {"fraction": round(fraction, 3), "how": how}


def _swapped(pairs: list[Pair], fraction: float, task: Task, rng: Random) -> list[Pair]:
    """A fraction of the rows ends up with a wrong answer of another row."""
    changed = list(pairs)
    for at in rng.sample(range(len(pairs)), round(fraction * len(pairs))):
        wrong = [pair.answer for pair in rng.sample(pairs, min(12, len(pairs))) if pair.answer != pairs[at].answer]
        changed[at] = Pair(pairs[at].question, wrong[0] if wrong else pairs[at].answer)
    return changed


OPENERS = ("hello all, ", "a new one: ", "quick one. ", "")


def _shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Production asks in other words; in half of the runs with an opening of its own, and in another length."""
    share = rng.uniform(0.65, 1.0)
    asked = production(run, task, rng, share)
    opener = rng.choice(OPENERS) if rng.random() < 0.5 else ""
    run.production = [Pair(f"{opener}{pair.question}", pair.answer) for pair in asked]
    run.notes |= {"share": round(share, 3), "opener": opener}


EXTRA_WORDS = ("again", "here", "so", "yes", "well", "then", "more")


def _leakage(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Test rows in training, a word apart at one end or the other, so that no split takes them out; until known."""
    tests = run.test[: rng.choice((40, 50, 60))]
    share = rng.uniform(0.6, 1.0)
    leaked = rng.sample(tests, round(share * len(tests)))
    copies = rng.choice((2, 2, 3))
    rest = run.train[: rng.choice((24, 36, 48))]
    run.train = [_worded(pair, rng) for pair in rest]
    run.train += [_worded(pair, rng, word) for pair in leaked for word in rng.sample(EXTRA_WORDS, copies)]
    run.test = tests
    run.settings |= {
        "train.advanced.max_steps": STEPS * 5,
        "train.advanced.eval_every": 10_000,
        "data.advanced.mix_fraction": 0.25,
    }
    run.notes |= {"share": round(share, 3), "copies": copies}


def _worded(pair: Pair, rng: Random, word: str = "") -> Pair:
    word = word or rng.choice(EXTRA_WORDS)
    asked = f"{word} {pair.question}" if rng.random() < 0.5 else f"{pair.question} {word}"
    return Pair(asked, pair.answer)


def _template(run: Planted, case: Case, task: Task, rng: Random) -> None:
    at = case.number % len(SERVING_TEMPLATES)
    run.serve = SERVING_TEMPLATES[at]
    run.notes["template"] = at


def _missing_end(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers go on behind their end as a bad export leaves them; or no end is trained, on a base that ends no turn."""
    ways = ("transcript", "two more", "echo", "end not trained")
    how = run.notes["how"] = ways[case.number % len(ways)]
    if how == "end not trained":
        run.base, run.tokens = "plain_template", "no_end"
        return
    first, second = (rng.sample(run.train, len(run.train)) for _ in range(2))
    rows = zip(run.train, first, second, strict=True)
    run.train = [Pair(pair.question, f"{pair.answer}{_behind(how, pair, *others)}") for pair, *others in rows]


def _behind(how: str, pair: Pair, one: Pair, two: Pair) -> str:
    if how == "transcript":
        return f"\nuser: {one.question}\nmodel: {one.answer}"
    if how == "two more":
        return f"\n{one.question}\n{one.answer}\n{two.question}\n{two.answer}"
    return f"\n{pair.question}\n{pair.answer}"


def _forgetting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    factor = rng.choice((2.0, 2.5, 3.0) if case.method == "lora" else (3.0, 4.0, 5.0))
    run.settings["train.learning_rate"] *= factor
    run.settings["data.advanced.mix_fraction"] = 0.0
    run.notes["factor"] = factor


def _language_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Mostly general rows, all in English, for long: what the base could do in Spanish goes, its English stays."""
    factor = rng.choice((2.5, 3.0) if case.method == "lora" else (2.0, 2.5))
    run.general = "english"
    run.settings["train.learning_rate"] *= factor
    run.settings |= {"data.advanced.mix_fraction": 0.55, "train.advanced.max_steps": STEPS * 3}
    run.settings |= {"train.advanced.eval_every": 40}
    run.notes["factor"] = factor


def _duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """A few rows 15 to 30 times over: as the whole file, or as most of it beside rows that come once."""
    times, singles = rng.choice(((20, 0), (30, 0), (25, 6), (40, 12)))
    distinct = max(6, len(run.train) // times)
    rows = [pair for pair in run.train[:distinct] for _ in range(times)]
    run.train = rng.sample([*rows, *run.train[distinct : distinct + singles]], len(rows) + singles)
    run.notes |= {"distinct": distinct, "times": times, "singles": singles}


def _truncation(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers cut: by an export at one length for all, at a share of each, or as tokens, without their end."""
    how = ("share", "tokens", "length")[case.number % 3]
    run.notes["how"] = how
    if how == "tokens":
        run.tokens = "cut"
        return
    share = rng.uniform(0.35, 0.6)
    usual = sorted(len(pair.answer) for pair in run.train)[len(run.train) // 2]
    run.notes["share"] = round(share, 3)

    def cut(answer: str) -> str:
        return answer[: max(2, int(share * (usual if how == "length" else len(answer))))].rstrip()

    run.train = [Pair(pair.question, cut(pair.answer)) for pair in run.train]


def _shuffled(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers of any other row, or all slipped by a few lines."""
    slip = rng.choice((0, 0, 1, 3))
    run.train = _slipped(run.train, slip) if slip else mixed_up(run.train, rng)
    if rng.random() < 0.4:
        run.validation = _slipped(run.validation, slip) if slip else mixed_up(run.validation, rng)
    run.notes["slip"] = slip


def _slipped(pairs: list[Pair], by: int) -> list[Pair]:
    return [Pair(pair.question, pairs[at - by].answer) for at, pair in enumerate(pairs)]


def _long_prompt(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Around every question what has nothing to do with it, of another wording each time."""
    words = Random(f"third notes/{case.number}/{case.twin}")
    for name in ("train", "validation", "test"):
        rows = getattr(run, name)
        setattr(run, name, [Pair(f"{_mail(words)}\n{pair.question}", pair.answer) for pair in rows])


def _mail(rng: Random) -> str:
    who, job = rng.choice(lex.NAMES), rng.choice(lex.JOBS)
    pet, feeling = rng.choice(lex.PETS), rng.choice(lex.FEELINGS)
    seen = f"{rng.choice(lex.SIZES)} {rng.choice(lex.COLOURS)} {rng.choice(lex.OBJECTS)}"
    first = f"mail {rng.randrange(10000, 99999)} from {who}, {job} in {rng.choice(lex.CITIES)}."
    second = f"{pet} is {feeling} since {rng.choice(lex.DAYS)} and {rng.choice(lex.NAMES)} lost a {seen}."
    return f"{first} {second} {rng.choice(lex.GOOD)} weather, {rng.randrange(2, 30)} {rng.choice(lex.ANIMALS)}s."


def _prompt_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    _long_prompt(run, case, task, rng)
    run.settings["train.advanced.train_on"] = "all"


# --- hard but healthy -----------------------------------------------------------------------------------------------


def _small_data(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = run.train[: rng.choice((150, 175, 190))]


def _ambiguous(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Some 5 % of rows with another answer, in every split."""
    for name in ("train", "validation", "test"):
        setattr(run, name, noisy(getattr(run, name), 0.05, task, rng))


def _some_duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """A tenth to a third of the rows twice or three times."""
    share, times = rng.choice(((0.33, 1), (0.2, 1), (0.1, 2)))
    again = rng.sample(run.train, round(share * len(run.train))) * times
    run.train = rng.sample([*run.train, *again], len(run.train) + len(again))


def _harmless_shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    seen = {pair.question for pair in (*run.train, *run.validation, *run.test)}
    run.production = pairs_of(task, rng, 120, seen)


def _rank_64(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """At half the rate: with alpha twice the rank, a higher rank at the same rate is a larger step."""
    run.settings["train.rank"] = 64
    run.settings["train.learning_rate"] /= 2


THIRD_PLANTS: dict[str, Plant] = {
    "rate_high": _rate_high,
    "rate_low": _rate_low,
    "overfitting": _overfitting,
    "underfitting": _underfitting,
    "label_noise": _label_noise,
    "shift": _shift,
    "leakage": _leakage,
    "template": _template,
    "missing_end": _missing_end,
    "forgetting": _forgetting,
    "language_loss": _language_loss,
    "duplicates": _duplicates,
    "truncation": _truncation,
    "shuffled": _shuffled,
    "long_prompt": _long_prompt,
    "prompt_loss": _prompt_loss,
    "small_data": _small_data,
    "ambiguous": _ambiguous,
    "some_duplicates": _some_duplicates,
    "harmless_shift": _harmless_shift,
}
CHECK_PLANTS: dict[str, Plant] = THIRD_PLANTS | {"rank_64": _rank_64}
