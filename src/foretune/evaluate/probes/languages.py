"""The languages of the training data and of what is asked, and the general skills in each before and after."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import NamedTuple

from foretune.data.languages import language_of
from foretune.data.samples import Sample
from foretune.evaluate.metrics import BITS_PER_BYTE
from foretune.evaluate.probe_sets import skill_language
from foretune.evaluate.probes.scope import NoEvidence, Scope
from foretune.evaluate.probes.shift import Production, read_production_samples
from foretune.records.evaluation import SkillScore
from foretune.records.evidence import LanguageEvidence

__all__ = ["language_evidence", "pooled_skill"]

LEAST_SHARE = 0.02  # of training and of what is asked, below which a language is not listed
WIDTH_95 = 2 * NormalDist().inv_cdf(0.975)  # of an interval, in standard errors


def language_evidence(scope: Scope, read_queries: Production | None) -> tuple[LanguageEvidence, ...]:
    """Every language that is trained on, asked in or probed, the most asked first."""
    trained = _shares(_text(sample) for sample in scope.drawn(scope.case.train, "languages"))
    asked = _asked_shares(scope, read_queries)
    skills: dict[str, list[SkillScore]] = {}
    for skill in _skills(scope):
        skills.setdefault(skill_language(skill.skill), []).append(skill)
    common = {code for shares in (trained, asked) for code, share in shares.items() if share >= LEAST_SHARE}
    if not common:
        raise NoEvidence("no language can be told from the samples")
    codes = sorted(common | skills.keys(), key=lambda code: (-asked.get(code, 0.0), -trained.get(code, 0.0), code))
    return tuple(_language(code, trained, asked, skills.get(code, [])) for code in codes)


def _language(
    code: str, trained: dict[str, float], asked: dict[str, float], skills: Sequence[SkillScore]
) -> LanguageEvidence:
    pooled = pooled_skill(skills)
    return LanguageEvidence(
        language=code,
        train_fraction=trained.get(code, 0.0),
        asked_fraction=asked.get(code, 0.0),
        base_score=None if pooled is None else pooled.before,
        tuned_score=None if pooled is None else pooled.after,
        n=0 if pooled is None else pooled.n,
        p_value=None if pooled is None else pooled.p_value,
    )


def _skills(scope: Scope) -> tuple[SkillScore, ...]:
    try:
        return scope.evaluation.general_skills
    except NoEvidence:
        return ()


def _text(sample: Sample) -> str:
    return f"{sample.input_text}\n{sample.target}" if sample.target else sample.input_text


def _shares(texts: Iterable[str]) -> dict[str, float]:
    """Shares of the texts whose language can be told; {} where none can."""
    counts = Counter(code for text in texts if (code := language_of(text)))
    return {code: count / counts.total() for code, count in counts.items()}


def _asked_shares(scope: Scope, read_queries: Production | None) -> dict[str, float]:
    """As the job declares them, else those of production, else of the validation inputs."""
    declared = scope.case.job.data.language_shares
    if any(declared.values()):
        return {code: share / sum(declared.values()) for code, share in declared.items()}
    if scope.case.job.data.production_path:
        samples: Sequence[Sample] = scope.drawn(read_production_samples(scope, read_queries), "languages")
    else:
        samples = scope.split("validation") or scope.split("train")
    return _shares(sample.input_text for sample in samples)


class _Pooled(NamedTuple):
    """Skills of one language together; scores are better the higher, in 0..1."""

    before: float
    after: float
    n: int
    p_value: float | None


def pooled_skill(skills: Sequence[SkillScore]) -> _Pooled | None:
    """The mean over all samples of the skills, with the p-value of the change; None where there are none.

    Rates count as they are; bits per byte become the mean (geometric) probability of a byte. The standard error of
    each change is read off its interval.
    """
    if not skills:
        return None
    n = sum(skill.n for skill in skills)
    before, after = (
        sum(skill.n * value for skill, value in zip(skills, side, strict=True)) / n for side in _sides(skills)
    )
    if len(skills) == 1:
        return _Pooled(before, after, n, skills[0].p_value)
    change = sum(skill.n * (skill.after - skill.before) for skill in skills) / n
    error = math.sqrt(sum((skill.n / n * (skill.ci_high - skill.ci_low) / WIDTH_95) ** 2 for skill in skills))
    p_value = 2 * NormalDist().cdf(-abs(change) / error) if error else float(change == 0)
    return _Pooled(before, after, n, p_value)


def _sides(skills: Sequence[SkillScore]) -> tuple[list[float], list[float]]:
    def of(skill: SkillScore, value: float) -> float:
        return 2.0**-value if skill.metric == BITS_PER_BYTE else value

    return [of(skill, skill.before) for skill in skills], [of(skill, skill.after) for skill in skills]
