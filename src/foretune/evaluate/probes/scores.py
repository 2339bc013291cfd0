"""The primary metric where it can be had without the sealed split: on train, on validation, by chance, of the base."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from foretune.evaluate.probes.form import form_of
from foretune.evaluate.probes.scope import NoEvidence, Scope, SplitName, share_score
from foretune.evaluate.scorers.table import ScoreTable
from foretune.evaluate.systems import BASE_FEW_SHOT, BASE_RETRIEVAL, BASE_ZERO_SHOT
from foretune.records.evidence import Score, ShapeEvidence

__all__ = ["base_score", "base_texts", "chance_score", "scored_answers", "shape_evidence", "split_score"]

PROMPTED = (BASE_ZERO_SHOT, BASE_FEW_SHOT, BASE_RETRIEVAL)


def scored_answers(scope: Scope, name: SplitName) -> ScoreTable:
    """The answers of the fine-tuned model to a split, on the primary metric."""
    answers = scope.answers(name)
    return scope.table(answers.texts, answers.targets)


def split_score(scope: Scope, name: SplitName) -> Score:
    """The primary metric of the fine-tuned model on the drawn samples of a split."""
    metric = scored_answers(scope, name).metrics[scope.case.primary]
    return Score(value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n)


def chance_score(scope: Scope) -> float:
    """The primary metric of the targets of other samples."""
    if scope.is_text:
        raise NoEvidence("raw text has no answers")
    targets = [sample.target for sample in (*scope.split("validation"), *scope.split("train"))]
    return _against_others(scope, targets, targets)


def _against_others(scope: Scope, texts: Sequence[str], targets: Sequence[str]) -> float:
    """The primary metric of texts against the targets of other samples, over three ways of shifting them."""
    if len(targets) < 2:
        raise NoEvidence("there is one sample, and no other to compare with")
    shifts = sorted({max(1, len(targets) * part // 4) for part in (1, 2, 3)})
    return fmean(scope.score(texts, [*targets[by:], *targets[:by]]).value for by in shifts)


def base_score(scope: Scope) -> Score:
    """The best prompt of the base on validation, as evaluation chose it."""
    evaluation = scope.evaluation
    rows = [row for row in evaluation.prompt_choices if row.get("chosen_as") in PROMPTED]
    if not rows:
        raise NoEvidence("evaluation tried no prompt of the base on validation samples")
    best = max(rows, key=lambda row: float(row["score"]))
    return Score(value=best["score"], ci_low=best["ci_low"], ci_high=best["ci_high"], n=best["n"])


def base_texts(scope: Scope) -> list[str]:
    """What the base says without examples: as evaluation wrote it down, else to 32 validation samples."""
    recorded = scope.recorded_by(BASE_ZERO_SHOT)
    if recorded:
        return [answer.prediction for answer in recorded]
    return scope.base_answers.texts


def shape_evidence(scope: Scope, base: Sequence[str]) -> ShapeEvidence:
    """Form and content of the fine-tuned model's answers on validation, beside the base's answers."""
    name: SplitName = "validation" if scope.split("validation") else "train"
    answers = scope.answers(name)
    distinct = {(sample.prompt, sample.target) for sample in scope.own}  # copies would make any target a label
    form = form_of([target for _, target in sorted(distinct, key=str)])
    rows = [row for row, text in enumerate(answers.texts) if form.fits(text)]
    texts, targets = ([side[row] for row in rows] for side in (answers.texts, answers.targets))
    return ShapeEvidence(
        form=share_score(len(rows), len(answers.texts)),
        base_form=form.share(base),
        content_given_form=scope.score(texts, targets) if rows else Score(value=0.0, ci_low=0.0, ci_high=1.0, n=0),
        shuffled=_against_others(scope, texts, targets) if len(rows) > 1 else 0.0,
        base_content=_base_content(scope),
    )


def _base_content(scope: Scope) -> float:
    try:
        return base_score(scope).value
    except NoEvidence:
        return scope.score(scope.base_answers.texts, scope.base_answers.targets).value
