"""The plants of the last round, where they differ from earlier ones: other sizes, words, templates and ways."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite.cases import Case
from diagnose_suite.halves import FINAL_STEPS
from diagnose_suite.plants import Plant, Planted, mixed_up, noisy, pairs_of, production
from diagnose_suite.tasks import Pair, Task
from foretune.data.world import lexicon as lex

__all__ = ["FINAL_PLANTS"]

# Ways of writing a conversation that neither training nor another half uses.
STRANGE_TEMPLATES = (
    "{{ bos_token }}{% for m in messages %}{{ 'Human' if m['role'] == 'user' else m['role'] | capitalize }}: "
    "{{ m['content'] + '\\n\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Model:' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '*** ' + m['content'] + ' ***\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '*** ' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ '{' + m['role'] + ' = ' + m['content'] + '}\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{assistant = ' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{% if m['role'] != 'system' %}{{ '> ' + m['content'] + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'answer> ' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{{ m['role'][0] + ' | ' + m['content'] + ' | ' }}{% endfor %}",
)


def _rate_high(run: Planted, case: Case, task: Task, rng: Random) -> None:
    factor = rng.choice((28, 35, 45, 70) if case.method == "lora" else (35, 45, 70, 90))
    run.settings["train.learning_rate"] *= factor
    run.notes["factor"] = factor


def _rate_low(run: Planted, case: Case, task: Task, rng: Random) -> None:
    divisor = rng.choice((70, 90, 130, 250))
    run.settings["train.learning_rate"] /= divisor
    run.notes["divisor"] = divisor


FEW_ROWS = ((8, 70), (9, 80), (11, 60), (14, 48))  # rows and passes


def _overfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """A handful of rows, seen dozens of times; nothing brings an earlier state back in three of four runs."""
    rows, epochs = rng.choice(FEW_ROWS)
    run.train = run.train[:rows]
    run.settings |= {
        "train.epochs": float(epochs),
        "train.advanced.max_steps": 0,
        "train.advanced.eval_every": 10_000 if rng.random() < 0.75 else 30,
    }
    run.notes |= {"rows": rows, "epochs": epochs}


def _underfitting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    steps = rng.choice((5, 7, 10))
    run.settings |= {"train.advanced.max_steps": steps, "train.advanced.eval_every": 2}
    run.notes["steps"] = steps


def _label_noise(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers of other questions: of any, or of the row before, as when a hand slips in a sheet."""
    fraction = rng.uniform(0.3, 0.45)
    how = rng.choice(("another answer", "row before"))
    spoil = noisy if how == "another answer" else _slipped_in
    run.train = spoil(run.train, fraction, task, rng)
    if rng.random() < 0.3:  # one noisy file, split
        run.validation, run.test = (spoil(pairs, fraction, task, rng) for pairs in (run.validation, run.test))
    run.notes |= {"fraction": round(fraction, 3), "how": how}


def _slipped_in(pairs: list[Pair], fraction: float, task: Task, rng: Random) -> list[Pair]:
    """A fraction of the rows, of those whose neighbour above says something else, with its answer."""
    able = [at for at in range(len(pairs)) if pairs[at - 1].answer != pairs[at].answer]
    chosen = set(rng.sample(able, min(len(able), round(fraction * len(pairs)))))
    return [Pair(pair.question, pairs[at - 1].answer) if at in chosen else pair for at, pair in enumerate(pairs)]


BEFORE, BEHIND = ("good morning. ", "for you: ", "it is me. ", ""), ("", "", " is that right?", " many thanks")


def _shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Production asks in other words, often with something before or behind."""
    share = rng.uniform(0.75, 1.0)
    before, behind = rng.choice(BEFORE), rng.choice(BEHIND)
    asked = production(run, task, rng, share, count=90)
    run.production = [Pair(f"{before}{pair.question}{behind}", pair.answer) for pair in asked]
    run.notes |= {"share": round(share, 3), "before": before, "behind": behind}


ADDED_WORDS = ("soon", "maybe", "just", "also", "still", "once", "too", "tonight")


def _leakage(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Test rows in training, with a word put in somewhere, so that no split takes them out; until they are known."""
    tests = run.test[: rng.choice((45, 55, 65))]
    share = rng.uniform(0.65, 1.0)
    leaked = rng.sample(tests, round(share * len(tests)))
    copies = rng.choice((2, 3))
    rest = run.train[: rng.choice((20, 32, 44))]
    run.train = [_with_word(pair, rng, rng.choice(ADDED_WORDS)) for pair in rest]
    run.train += [_with_word(pair, rng, word) for pair in leaked for word in rng.sample(ADDED_WORDS, copies)]
    run.test = tests
    run.settings |= {
        "train.advanced.max_steps": FINAL_STEPS * 4,
        "train.advanced.eval_every": 10_000,
        "data.advanced.mix_fraction": 0.22,
    }
    run.notes |= {"share": round(share, 3), "copies": copies}


def _with_word(pair: Pair, rng: Random, word: str) -> Pair:
    """The word before, behind or in the middle of the question."""
    words = pair.question.split(" ")
    at = rng.choice((0, len(words) // 2, len(words)))
    return Pair(" ".join([*words[:at], word, *words[at:]]), pair.answer)


def _template(run: Planted, case: Case, task: Task, rng: Random) -> None:
    at = case.number % len(STRANGE_TEMPLATES)
    run.serve = STRANGE_TEMPLATES[at]
    run.notes["template"] = at


def _missing_end(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers go on behind their end as a bad export leaves them; or no end is trained, on a base that ends no turn."""
    ways = ("numbered", "other answers", "tagged", "end not trained")
    how = run.notes["how"] = ways[case.number % len(ways)]
    if how == "end not trained":
        run.base, run.tokens = "plain_template", "no_end"
        return
    first, second = (rng.sample(run.train, len(run.train)) for _ in range(2))
    rows = zip(run.train, first, second, strict=True)
    run.train = [Pair(pair.question, f"{pair.answer}{_behind(how, *others)}") for pair, *others in rows]


def _behind(how: str, one: Pair, two: Pair) -> str:
    if how == "numbered":
        return f"\n2. {one.question}\n{one.answer}\n3. {two.question}\n{two.answer}"
    if how == "other answers":
        return f"\n{one.answer}\n{two.answer}"
    return f"\n[in] {one.question}\n[out] {one.answer}"


def _forgetting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Nothing general mixed in, at a higher rate, for longer."""
    factor = rng.choice((1.8, 2.4, 3.0) if case.method == "lora" else (2.5, 3.5, 4.5))
    longer = rng.choice((1.0, 1.5))
    run.settings["train.learning_rate"] *= factor
    run.settings |= {"data.advanced.mix_fraction": 0.0, "train.advanced.max_steps": round(FINAL_STEPS * longer)}
    run.notes |= {"factor": factor, "longer": longer}


def _duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """A few rows 35 to 60 times over: as the whole file, or beside rows that come once."""
    times, singles = rng.choice(((35, 0), (45, 0), (50, 5), (60, 8)))
    distinct = max(5, len(run.train) // times)
    rows = [pair for pair in run.train[:distinct] for _ in range(times)]
    run.train = rng.sample([*rows, *run.train[distinct : distinct + singles]], len(rows) + singles)
    run.notes |= {"distinct": distinct, "times": times, "singles": singles}


def _truncation(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers cut: behind a share of their words, anywhere near their middle, or as tokens, without their end."""
    how = ("words", "anywhere", "tokens")[case.number % 3]
    run.notes["how"] = how
    if how == "tokens":
        run.tokens = "cut"
        return
    share = rng.uniform(0.35, 0.6)
    run.notes["share"] = round(share, 3)

    def cut(answer: str) -> str:
        if how == "anywhere":
            return answer[: max(2, int(rng.uniform(0.25, 0.65) * len(answer)))].rstrip()
        words = answer.split(" ")
        return " ".join(words[: max(1, int(share * len(words)))])

    run.train = [Pair(pair.question, cut(pair.answer)) for pair in run.train]


def _shuffled(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers of any other row, or one column of the sheet sorted or turned upside down without the other."""
    how = run.notes["how"] = rng.choice(("mixed", "sorted", "upside down"))
    run.train = _moved(run.train, how, rng)
    if rng.random() < 0.4:
        run.validation = _moved(run.validation, how, rng)


def _moved(pairs: list[Pair], how: str, rng: Random) -> list[Pair]:
    if how == "mixed":
        return mixed_up(pairs, rng)
    answers = [pair.answer for pair in pairs]
    moved = sorted(answers) if how == "sorted" else answers[::-1]
    return [Pair(pair.question, answer) for pair, answer in zip(pairs, moved, strict=True)]


def _long_prompt(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Before every question a log that has nothing to do with it, of another wording each time."""
    words = Random(f"final log/{case.number}/{case.twin}")
    for name in ("train", "validation", "test"):
        rows = getattr(run, name)
        setattr(run, name, [Pair(f"{_log(words)}\n{pair.question}", pair.answer) for pair in rows])


def _log(rng: Random) -> str:
    entries = [_entry(rng) for _ in range(rng.choice((3, 4)))]
    return f"log {rng.randrange(100, 999)}.{rng.randrange(10, 99)} " + "; ".join(entries) + "."


def _entry(rng: Random) -> str:
    what = rng.choice(
        (
            f"{rng.choice(lex.PETS)} got a {rng.choice(lex.SIZES)} {rng.choice(lex.OBJECTS)}",
            f"{rng.choice(lex.BRANDS)} moved {rng.choice(lex.LABEL_WORDS)} to {rng.choice(lex.LABEL_WORDS)}",
            f"{rng.choice(lex.BAD)} {rng.choice(lex.KEY_WORDS)} at the {rng.choice(lex.PLACES)}",
        )
    )
    return f"{rng.randrange(1, 24)}:{rng.randrange(10, 60)} {what}"


def _prompt_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    _long_prompt(run, case, task, rng)
    run.settings["train.advanced.train_on"] = "all"


# --- hard but healthy -----------------------------------------------------------------------------------------------


def _small_data(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = run.train[: rng.choice((165, 185, 205))]


def _ambiguous(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Some 4 to 6 % of rows with another answer, in every split."""
    share = rng.uniform(0.04, 0.06)
    for name in ("train", "validation", "test"):
        setattr(run, name, noisy(getattr(run, name), share, task, rng))


def _noisy_curve(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {
        "train.global_batch_size": 4,
        "train.advanced.max_steps": FINAL_STEPS * 2,
        "train.advanced.eval_every": 20,
    }


def _some_duplicates(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """An eighth to a third of the rows twice, or a tenth four times."""
    share, times = rng.choice(((0.3, 1), (0.125, 1), (0.1, 3)))
    again = rng.sample(run.train, round(share * len(run.train))) * times
    run.train = rng.sample([*run.train, *again], len(run.train) + len(again))


def _mild_forgetting(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings["data.advanced.mix_fraction"] = 0.3


def _harmless_shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    seen = {pair.question for pair in (*run.train, *run.validation, *run.test)}
    run.production = pairs_of(task, rng, 110, seen)


def _early_stopped(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {
        "train.advanced.max_steps": FINAL_STEPS * 2,
        "train.advanced.eval_every": 12,
        "train.advanced.patience": 2,
    }


def _rank_64(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """At less than half the rate: with alpha twice the rank, a higher rank at the same rate is a larger step."""
    run.settings["train.rank"] = 64
    run.settings["train.learning_rate"] *= 0.45


def _long_but_sound(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.settings |= {"train.advanced.max_steps": FINAL_STEPS * 2, "train.advanced.eval_every": 15}


FINAL_PLANTS: dict[str, Plant] = {
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
    "duplicates": _duplicates,
    "truncation": _truncation,
    "shuffled": _shuffled,
    "long_prompt": _long_prompt,
    "prompt_loss": _prompt_loss,
    "small_data": _small_data,
    "ambiguous": _ambiguous,
    "noisy_curve": _noisy_curve,
    "some_duplicates": _some_duplicates,
    "mild_forgetting": _mild_forgetting,
    "harmless_shift": _harmless_shift,
    "early_stopped": _early_stopped,
    "rank_64": _rank_64,
    "long_but_sound": _long_but_sound,
}
