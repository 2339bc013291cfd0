"""The plants of the last round, where they differ from earlier ones: other sizes, words, templates and ways."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite import kinds
from diagnose_suite.cases import Case
from diagnose_suite.halves import FINAL_STEPS
from diagnose_suite.kinds import Plant, Planted
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


# --- faults ---------------------------------------------------------------------------------------------------------

FEW_ROWS = ((8, 70), (9, 80), (11, 60), (14, 48))  # rows and passes


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
    asked = kinds.production(run, task, rng, share, count=90)
    run.production = [Pair(f"{before}{pair.question}{behind}", pair.answer) for pair in asked]
    run.notes |= {"share": round(share, 3), "before": before, "behind": behind}


ADDED_WORDS = ("soon", "maybe", "just", "also", "still", "once", "too", "tonight")


def _with_word(pair: Pair, word: str, rng: Random) -> Pair:
    """The word before, behind or in the middle of the question."""
    words = pair.question.split(" ")
    at = rng.choice((0, len(words) // 2, len(words)))
    return Pair(" ".join([*words[:at], word, *words[at:]]), pair.answer)


def _numbered(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\n2. {one.question}\n{one.answer}\n3. {two.question}\n{two.answer}"


def _two_answers(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\n{one.answer}\n{two.answer}"


def _tagged(pair: Pair, one: Pair, two: Pair) -> str:
    return f"\n[in] {one.question}\n[out] {one.answer}"


def _behind_words(pairs: list[Pair], share: float, rng: Random) -> list[str]:
    """Behind a share of their words."""
    split = [pair.answer.split(" ") for pair in pairs]
    return [" ".join(words[: max(1, int(share * len(words)))]) for words in split]


def _anywhere(pairs: list[Pair], share: float, rng: Random) -> list[str]:
    """Anywhere near their middle."""
    return [pair.answer[: max(2, int(rng.uniform(0.25, 0.65) * len(pair.answer)))].rstrip() for pair in pairs]


def _sorted(pairs: list[Pair], rng: Random) -> list[Pair]:
    """One column of the sheet sorted without the other."""
    return kinds.other_answers(pairs, sorted(pair.answer for pair in pairs))


def _upside_down(pairs: list[Pair], rng: Random) -> list[Pair]:
    return kinds.other_answers(pairs, [pair.answer for pair in reversed(pairs)])


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


_long_prompt = kinds.long_prompt("final log", _log)

FINAL_PLANTS: dict[str, Plant] = {
    "rate_high": kinds.rate_high(lora=(28, 35, 45, 70), full=(35, 45, 70, 90)),
    "rate_low": kinds.rate_low(70, 90, 130, 250),
    "overfitting": kinds.overfitting(lambda task, rng: rng.choice(FEW_ROWS), unwatched=0.75, eval_every=30),
    "underfitting": kinds.underfitting(5, 7, 10, eval_every=2),
    "label_noise": kinds.label_noise(
        0.3, 0.45, whole_file=0.3, ways={"another answer": kinds.noisy, "row before": _slipped_in}
    ),
    "shift": _shift,
    "leakage": kinds.leakage(
        ADDED_WORDS,
        _with_word,
        tests=(45, 55, 65),
        least=0.65,
        copies=(2, 3),
        rest=(20, 32, 44),
        steps=FINAL_STEPS * 4,
        mix_fraction=0.22,
    ),
    "template": kinds.served(STRANGE_TEMPLATES),
    "missing_end": kinds.runs_on(
        {"numbered": _numbered, "other answers": _two_answers, "tagged": _tagged, "end not trained": None}
    ),
    "forgetting": kinds.forgetting(lora=(1.8, 2.4, 3.0), full=(2.5, 3.5, 4.5), steps=FINAL_STEPS, longer=(1.0, 1.5)),
    "duplicates": kinds.duplicates(((35, 0), (45, 0), (50, 5), (60, 8)), least=5),
    "truncation": kinds.truncated(0.35, 0.6, (("words", _behind_words), ("anywhere", _anywhere), ("tokens", None))),
    "shuffled": kinds.shuffled(
        (("mixed", kinds.mixed_up), ("sorted", _sorted), ("upside down", _upside_down)), validation=0.4, note="how"
    ),
    "long_prompt": _long_prompt,
    "prompt_loss": kinds.loss_on(_long_prompt),
    "small_data": kinds.small_data(165, 185, 205),
    "ambiguous": kinds.ambiguous(0.04, 0.06),
    "noisy_curve": kinds.longer(FINAL_STEPS * 2, eval_every=20, more={"train.global_batch_size": 4}),
    "some_duplicates": kinds.some_duplicates((0.3, 1), (0.125, 1), (0.1, 3)),
    "mild_forgetting": kinds.changed({"data.advanced.mix_fraction": 0.3}),
    "harmless_shift": kinds.harmless_shift(110),
    "early_stopped": kinds.longer(FINAL_STEPS * 2, eval_every=12, more={"train.advanced.patience": 2}),
    # At less than half the rate: with alpha twice the rank, a higher rank at the same rate is a larger step.
    "rank_64": kinds.changed({"train.rank": 64}, rate=0.45),
    "long_but_sound": kinds.longer(FINAL_STEPS * 2, eval_every=15),
}
