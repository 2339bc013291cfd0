"""What the model could do before training and can do after it: general skills, general text, languages."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from foretune.data.samples import Message
from foretune.data.tokenizer import Tokenizer
from foretune.data.world.skills import SKILLS, ProbeSample, general_text, probe
from foretune.engine.chat import ChatEngine
from foretune.evaluate.metrics import BITS_PER_BYTE, EXACT_MATCH
from foretune.evaluate.probe_sets import (
    CHOICES,
    FORMAT_PREFIX,
    TEXT_PREFIX,
    choice_scores,
    format_samples,
    probe_languages,
    probe_texts,
)
from foretune.evaluate.scorers.text import exact_match
from foretune.models.base import EMBEDDED, resolve_base
from foretune.records.evaluation import SkillScore
from foretune.stats.paired import PairedResult, compare_paired

if TYPE_CHECKING:
    from foretune.engine.engine import Engine, TextLoss

__all__ = [
    "GENERAL_TEXT",
    "Scores",
    "bits_of_texts",
    "compare_skills",
    "forgotten",
    "general_scores",
    "is_pebble",
    "losses_of_texts",
]

GENERAL_TEXT = "general_text"
NUM_TEXTS = 60
PROBE_SEED = 0
ALPHA = 0.05
TARGET_LIMITS = (4, 10, 32)  # probes are asked in groups by the length of their answers, in tokens

Scores = dict[str, list[float]]  # skill -> one score a sample, always of the same samples


def is_pebble(base: str, tokenizer: Tokenizer) -> bool:
    """Whether a base is pebble or was made from it, by its tokenizer; then it was trained on the skills probed."""
    return base == EMBEDDED or tokenizer.fingerprint == Tokenizer.from_folder(resolve_base(EMBEDDED)).fingerprint


def general_scores(
    chat: ChatEngine, *, knows_skills: bool, num_samples: int, batch_size: int, languages: Sequence[str] = ()
) -> Scores:
    """Exact match per sample of each skill that pebble learnt.

    Of other models bits per byte of general texts and of texts in English and in `languages`, sentences with one right
    end, and instructions of a fixed form.
    """
    if knows_skills:
        samples = [sample for skill in SKILLS for sample in probe(skill, num_samples, PROBE_SEED)]
        return _matches(chat, samples, batch_size)
    scores: Scores = {GENERAL_TEXT: bits_of_texts(chat.engine, general_text(NUM_TEXTS))}
    for code in probe_languages(languages):
        scores[f"{TEXT_PREFIX}{code}"] = bits_of_texts(chat.engine, probe_texts()[code])
    scores[CHOICES] = choice_scores(chat.engine)
    return scores | _matches(chat, format_samples(num_samples), batch_size)


def _matches(chat: ChatEngine, samples: Sequence[ProbeSample], batch_size: int) -> Scores:
    """Exact match by skill, in the order of the samples."""
    scores: Scores = defaultdict(list)
    for sample, answer in zip(samples, _answers(chat, samples, batch_size), strict=True):
        scores[sample.skill].append(exact_match(answer, sample.target))
    return dict(scores)


def bits_of_texts(engine: Engine, texts: Sequence[str]) -> list[float]:
    """Bits per byte of each text; a text of less than two tokens has none and counts 0."""
    return [loss.bits_per_byte for loss in losses_of_texts(engine, texts)]


def losses_of_texts(engine: Engine, texts: Sequence[str]) -> list[TextLoss]:
    """The loss on each text by itself."""
    longest = engine.max_len or LONGEST_TEXT
    return [engine.text_loss([text], max_seq_len=longest) for text in texts]


LONGEST_TEXT = 2048  # tokens, for models without a limit of their own


def compare_skills(before: Scores, after: Scores) -> list[SkillScore]:
    """Every skill before and after, with the 95 % interval of the change on the same samples.

    Forms that the base never followed are left out: they cannot be lost.
    """
    told = [skill for skill in before if not skill.startswith(FORMAT_PREFIX) or any(before[skill])]
    return [_skill_score(skill, before[skill], after[skill], _change(skill, before, after)) for skill in told]


def forgotten(before: Scores, after: Scores) -> list[str]:
    """Skills that got worse, at 5 % over all of them together (Bonferroni)."""
    worse = []
    for skill in before:
        change = _change(skill, before, after)
        loss = change.value if _is_text(skill) else -change.value
        if loss > 0 and change.p_value * len(before) < ALPHA:
            worse.append(skill)
    return worse


def _answers(chat: ChatEngine, samples: Sequence[ProbeSample], batch_size: int) -> list[str]:
    """Answers in the order of the samples; none longer than a right one could be."""
    tokenizer = chat.engine.tokenizer
    lengths = [len(ids) for ids in tokenizer.encode_batch([sample.target for sample in samples])]
    answers = [""] * len(samples)
    shortest = 0
    for limit in (*TARGET_LIMITS, max(lengths, default=0)):
        chosen = [place for place, length in enumerate(lengths) if shortest < length <= limit]
        prompts = [chat.prompt_ids([Message.from_json(turn) for turn in samples[place].messages]) for place in chosen]
        replies = chat.replies(prompts, max_new_tokens=limit + 1, batch_size=batch_size)
        for place, reply in zip(chosen, replies, strict=True):
            answers[place] = reply.text
        shortest = max(shortest, limit)
    return answers


def _is_text(skill: str) -> bool:
    return skill == GENERAL_TEXT or skill.startswith(TEXT_PREFIX)


def _change(skill: str, before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> PairedResult:
    if _is_text(skill):
        return compare_paired(before[skill], after[skill], "graded", score_range=None)
    return compare_paired(before[skill], after[skill], "binary")


def _skill_score(skill: str, before: Sequence[float], after: Sequence[float], change: PairedResult) -> SkillScore:
    return SkillScore(
        skill=skill,
        metric=BITS_PER_BYTE if _is_text(skill) else EXACT_MATCH,
        before=sum(before) / len(before),
        after=sum(after) / len(after),
        n=len(before),
        ci_low=change.ci_low,
        ci_high=change.ci_high,
        p_value=change.p_value,
    )
