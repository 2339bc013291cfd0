"""Language loss: which languages are measured well enough, and that a neglected one that fell is named."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from foretune.diagnose.evidence import Evidence
from foretune.diagnose.language import language_loss, language_needs
from foretune.evaluate.metrics import BITS_PER_BYTE
from foretune.evaluate.probes.languages import pooled_skill
from foretune.records.evaluation import SkillScore
from foretune.records.evidence import LanguageEvidence
from unit.diagnose.planted import probes_of

ENGLISH = LanguageEvidence(
    language="en", train_fraction=1.0, asked_fraction=0.7, base_score=0.8, tuned_score=0.8, n=80, p_value=1.0
)


def spanish(before: float, after: float, n: int, p_value: float | None) -> LanguageEvidence:
    return LanguageEvidence(
        language="es",
        train_fraction=0.0,
        asked_fraction=0.3,
        base_score=before,
        tuned_score=after,
        n=n,
        p_value=p_value,
    )


def evidence_of(s: ModuleType, *languages: LanguageEvidence) -> Evidence:
    found: Evidence = s.evidence_of(s.curves_of(s.HEALTHY["converged"], 3), None)
    return replace(found, probes=probes_of(languages=languages))


def test_ten_texts_that_became_less_likely_are_enough(s: ModuleType) -> None:
    """Skills of other models than pebble are the losses on ten texts a language, compared pair by pair."""
    texts = pooled_skill(
        [
            SkillScore(
                skill="text_es",
                metric=BITS_PER_BYTE,
                before=0.91,
                after=1.64,
                n=10,
                ci_low=0.5,
                ci_high=0.96,
                p_value=1e-4,
            )
        ]
    )
    assert texts is not None
    cause = language_loss(evidence_of(s, ENGLISH, spanish(texts.before, texts.after, texts.n, texts.p_value)))
    assert cause is not None and cause.statistic > 1
    assert "es" in cause.explanation and "en" not in cause.explanation.split()


@pytest.mark.parametrize(
    "few", [spanish(0.75, 0.25, 12, 0.001), spanish(0.5321, 0.3207, 10, None), spanish(0.5321, 0.3207, 6, 1e-4)]
)
def test_too_few_tasks_are_not_judged(s: ModuleType, few: LanguageEvidence) -> None:
    """Twelve answers right or wrong, texts without a paired test, six texts."""
    assert language_loss(evidence_of(s, ENGLISH, few)) is None
    assert "20 tasks or 8 texts" in language_needs(evidence_of(s, few))


def test_a_language_that_training_showed_is_not_lost_to_training_in_others(s: ModuleType) -> None:
    fell = spanish(0.8, 0.3, 40, 1e-5)
    assert language_loss(evidence_of(s, ENGLISH, fell)) is not None
    assert language_loss(evidence_of(s, ENGLISH, fell.model_copy(update={"train_fraction": 0.3}))) is None
