"""The plants of the first two halves, which later ones take where they have none of their own."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite import kinds
from diagnose_suite.cases import Case
from diagnose_suite.kinds import STEPS, Plant, Planted
from diagnose_suite.tasks import Pair, Task
from foretune.data.world import lexicon as lex

__all__ = ["PLANTS"]

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


# --- faults ---------------------------------------------------------------------------------------------------------


def _dozen(task: Task, rng: Random) -> tuple[int, int]:
    """Rows and passes."""
    return rng.choice((10, 12, 16)), rng.choice((40, 50, 60))


def _shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    share = rng.uniform(0.6, 1.0)
    run.production = kinds.production(run, task, rng, share)
    run.notes["share"] = round(share, 3)


def hollow(pairs: list[Pair], task: Task, rng: Random) -> list[Pair]:
    """Answers of the right form that say nothing of their questions."""
    return [Pair(pair.question, task.hollow_pair(rng).answer) for pair in pairs]


def _style_only(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.train = hollow(run.train, task, rng)
    if rng.random() < 0.5:
        run.validation = hollow(run.validation, task, rng)


POLITE = ("please", "thanks", "ok", "now", "today", "friend")


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


def _worded(pair: Pair, at: int) -> Pair:
    return Pair(f"{pair.question} {POLITE[at]}", pair.answer)


def _template(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.serve = OTHER_TEMPLATES[case.seed % len(OTHER_TEMPLATES)]


def _missing_end(run: Planted, case: Case, task: Task, rng: Random) -> None:
    """Answers go on behind their end, as an export leaves them; or no end is trained, on a base that ended no turns."""
    if case.number % 4 == 3:
        run.base, run.tokens = "plain_template", "no_end"
        run.notes["how"] = "end not trained"
        return
    how = ("next exchange", "answer again", "next question")[case.number % 3]
    joined = zip(run.train, rng.sample(run.train, len(run.train)), strict=True)
    run.train = [Pair(pair.question, f"{pair.answer}\n{_behind(how, pair, other)}") for pair, other in joined]
    run.notes["how"] = how


def _behind(how: str, pair: Pair, other: Pair) -> str:
    if how == "next exchange":
        return f"{other.question}\n{other.answer}"
    return f"{pair.answer}\n{pair.answer}" if how == "answer again" else other.question


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
        cut = [pair.answer[: max(1, int(share * len(pair.answer)))].rstrip() for pair in run.train]
        run.train = kinds.other_answers(run.train, cut)
    run.notes |= {"share": round(share, 3), "how": "tokens" if run.tokens else "text"}


def _wrong_base(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.base = "random_weights"


def _note(rng: Random) -> str:
    who, what = (
        f"{rng.choice(lex.NAMES)} the {rng.choice(lex.JOBS)}",
        f"{rng.choice(lex.SIZES)} {rng.choice(lex.ANIMALS)}",
    )
    thing = f"{rng.choice(lex.COLOURS)} {rng.choice(lex.OBJECTS)}"
    where, when = rng.choice(lex.CITIES), rng.choice(lex.DAYS)
    return f"note {rng.randrange(1000, 9999)}, {when}: {who} saw a {what} with a {thing} near {where}."


_long_prompt = kinds.long_prompt("notes/{key}", _note)


# --- hard but healthy -----------------------------------------------------------------------------------------------


def _harmless_shift(run: Planted, case: Case, task: Task, rng: Random) -> None:
    run.production = kinds.production(run, task, rng, 0.0)


PLANTS: dict[str, Plant] = {
    "rate_high": kinds.rate_high(lora=(20, 30, 50), full=(30, 40, 50)),
    "rate_low": kinds.rate_low(50, 100, 200),
    "overfitting": kinds.overfitting(
        _dozen,
        unwatched=0.5,
        eval_every=20,
        more={"train.global_batch_size": 16, "data.advanced.mix_fraction": 0.4},
    ),
    "underfitting": kinds.underfitting(5, 6, 8, eval_every=2),
    "label_noise": kinds.label_noise(0.25, 0.4, whole_file=0.5),
    "shift": _shift,
    "style_only": _style_only,
    "leakage": _leakage,
    "template": _template,
    "prompt_loss": kinds.loss_on(_long_prompt),
    "missing_end": _missing_end,
    "forgetting": kinds.forgetting(lora=(1.5, 2.0), full=(2.0, 3.0, 4.0)),
    "duplicates": _duplicates,
    "truncation": _truncation,
    "shuffled": kinds.shuffled([("mixed", kinds.mixed_up)], validation=0.5),
    "wrong_base": _wrong_base,
    "small_data": kinds.small_data(160, 180, 200),
    "ambiguous": kinds.ambiguous(0.06, 0.06),
    "noisy_curve": kinds.longer(STEPS * 2, eval_every=24, more={"train.global_batch_size": 4}),
    "some_duplicates": kinds.some_duplicates((0.25, 1)),
    "mild_forgetting": kinds.changed({"data.advanced.mix_fraction": 0.15}),
    "harmless_shift": _harmless_shift,
    "early_stopped": kinds.longer(STEPS * 2, eval_every=8, more={"train.advanced.patience": 2}),
    "rank_4": kinds.changed({"train.rank": 4}),
    "rank_64": kinds.changed({"train.rank": 64}),
    "long_but_sound": kinds.longer(STEPS * 2, eval_every=12),
    "long_prompt": _long_prompt,
}
