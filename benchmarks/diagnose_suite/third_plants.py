"""The plants of the half that no threshold has seen, where they differ: other sizes, words, templates and ways."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite import kinds
from diagnose_suite.cases import Case
from diagnose_suite.kinds import STEPS, Move, Plant, Planted
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


# --- faults ---------------------------------------------------------------------------------------------------------

NEEDS_ROWS = ("topic", "urgency", "hours", "painting", "freight")  # tasks that 60 rows do not teach
MANY_PASSES = ((60, 20), (60, 24), (30, 32), (20, 40))  # rows and epochs
VERY_MANY_PASSES = ((10, 60), (12, 60), (16, 50))


def _few_rows(task: Task, rng: Random) -> tuple[int, int]:
    """Rows and epochs: a dozen, or 60 where more than 60 are needed."""
    return rng.choice(MANY_PASSES if task.name in NEEDS_ROWS else VERY_MANY_PASSES)


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
    asked = kinds.production(run, task, rng, share)
    opener = rng.choice(OPENERS) if rng.random() < 0.5 else ""
    run.production = [Pair(f"{opener}{pair.question}", pair.answer) for pair in asked]
    run.notes |= {"share": round(share, 3), "opener": opener}


EXTRA_WORDS = ("again", "here", "so", "yes", "well", "then", "more")


def _worded(pair: Pair, word: str, rng: Random) -> Pair:
    """The word at one end or the other."""
    asked = f"{word} {pair.question}" if rng.random() < 0.5 else f"{pair.question} {word}"
    return Pair(asked, pair.answer)


def _transcript(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\nuser: {one.question}\nmodel: {one.answer}"


def _two_more(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\n{one.question}\n{one.answer}\n{two.question}\n{two.answer}"


def _echo(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\n{pair.question}\n{pair.answer}"


def _language_loss(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Mostly general rows, all in English, for long: what the base could do in Spanish goes, its English stays."""
    factor = rng.choice((2.5, 3.0) if case.method == "lora" else (2.0, 2.5))
    run.general = "english"
    run.settings["train.learning_rate"] *= factor
    run.settings |= {"data.advanced.mix_fraction": 0.55, "train.advanced.max_steps": STEPS * 3}
    run.settings |= {"train.advanced.eval_every": 40}
    run.notes["factor"] = factor


def _at_share(pairs: list[Pair], share: float, rng: Random) -> list[str]:
    """Each at its own share."""
    return [_cut(pair.answer, share * len(pair.answer)) for pair in pairs]


def _at_length(pairs: list[Pair], share: float, rng: Random) -> list[str]:
    """All at one length, as an export does."""
    usual = sorted(len(pair.answer) for pair in pairs)[len(pairs) // 2]
    return [_cut(pair.answer, share * usual) for pair in pairs]


def _cut(answer: str, length: float) -> str:
    return answer[: max(2, int(length))].rstrip()


def _slipped(by: int) -> Move:
    """Answers slip by a few lines."""

    def move(pairs: list[Pair], rng: Random) -> list[Pair]:
        return kinds.other_answers(pairs, [pairs[at - by].answer for at in range(len(pairs))])

    return move


def _mail(rng: Random) -> str:
    who, job = rng.choice(lex.NAMES), rng.choice(lex.JOBS)
    pet, feeling = rng.choice(lex.PETS), rng.choice(lex.FEELINGS)
    seen = f"{rng.choice(lex.SIZES)} {rng.choice(lex.COLOURS)} {rng.choice(lex.OBJECTS)}"
    first = f"mail {rng.randrange(10000, 99999)} from {who}, {job} in {rng.choice(lex.CITIES)}."
    second = f"{pet} is {feeling} since {rng.choice(lex.DAYS)} and {rng.choice(lex.NAMES)} lost a {seen}."
    return f"{first} {second} {rng.choice(lex.GOOD)} weather, {rng.randrange(2, 30)} {rng.choice(lex.ANIMALS)}s."


_long_prompt = kinds.long_prompt("third notes", _mail)

THIRD_PLANTS: dict[str, Plant] = {
    "rate_high": kinds.rate_high(lora=(25, 30, 40, 60), full=(25, 30, 40, 60)),
    "rate_low": kinds.rate_low(60, 100, 150, 300),
    "overfitting": kinds.overfitting(_few_rows, unwatched=0.6, eval_every=24),
    "underfitting": kinds.underfitting(4, 6, 7, 9, eval_every=3),
    "label_noise": kinds.label_noise(
        0.25, 0.42, whole_file=0.4, ways={"another answer": kinds.noisy, "swapped": _swapped}
    ),
    "shift": _shift,
    "leakage": kinds.leakage(
        EXTRA_WORDS,
        _worded,
        tests=(40, 50, 60),
        least=0.6,
        copies=(2, 2, 3),
        rest=(24, 36, 48),
        steps=STEPS * 5,
        mix_fraction=0.25,
    ),
    "template": kinds.served(SERVING_TEMPLATES),
    "missing_end": kinds.runs_on(
        {"transcript": _transcript, "two more": _two_more, "echo": _echo, "end not trained": None}
    ),
    "forgetting": kinds.forgetting(lora=(2.0, 2.5, 3.0), full=(3.0, 4.0, 5.0)),
    "language_loss": _language_loss,
    "duplicates": kinds.duplicates(((20, 0), (30, 0), (25, 6), (40, 12)), least=6),
    "truncation": kinds.truncated(0.35, 0.6, (("share", _at_share), ("tokens", None), ("length", _at_length))),
    "shuffled": kinds.shuffled(
        ((0, kinds.mixed_up), (0, kinds.mixed_up), (1, _slipped(1)), (3, _slipped(3))), validation=0.4, note="slip"
    ),
    "long_prompt": _long_prompt,
    "prompt_loss": kinds.loss_on(_long_prompt),
    "small_data": kinds.small_data(150, 175, 190),
    "ambiguous": kinds.ambiguous(0.05, 0.05),
    "some_duplicates": kinds.some_duplicates((0.33, 1), (0.2, 1), (0.1, 2)),
    "harmless_shift": kinds.harmless_shift(120),
}
# At half the rate: with alpha twice the rank, a higher rank at the same rate is a larger step.
CHECK_PLANTS: dict[str, Plant] = THIRD_PLANTS | {"rank_64": kinds.changed({"train.rank": 64}, rate=0.5)}
