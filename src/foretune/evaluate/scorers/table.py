"""Scores every sample with every scorer, puts an interval on each metric, and compares two systems on one of them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretune.data.embed.lexical import LexicalEmbedder
from foretune.data.embed.vectors import Embedder
from foretune.errors import ScoreError
from foretune.evaluate.scorers.classification import Labels
from foretune.evaluate.scorers.numbers import Span
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.spec import BatchedScorer, CorpusMetric, SampleScorer, ScorerSpec
from foretune.evaluate.scorers.structured import compiled_schema, infer_schema
from foretune.stats.checks import FloatArray, checked_binary, checked_scores
from foretune.stats.intervals import Interval, bca_interval, t_mean, wilson
from foretune.stats.paired import MARGIN, PairedResult, compare_paired, compare_paired_metric

__all__ = ["Metric", "ScoreTable", "check_may_run", "compare_scores", "paired_rows", "score_samples", "unscored_words"]


class Metric(NamedTuple):
    """A metric over `n` samples with its 95 % interval; fractions in 0..1 unless its scorer says otherwise."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    method: str
    signature: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """All scores of one system on one split.

    `metrics`: every metric asked for. `scores`: (n,) per sample, for all but the corpus metrics that mean nothing for
    one sample. `rows`: (n, K) statistics of the corpus metrics. `num_invalid`: answers that are no label, None where
    no metric uses labels. `unscored`: by metric, the rows that the user's own scorer could not score and why; their
    score is NaN, and the metric is that of the other rows.
    """

    n: int
    metrics: dict[str, Metric]
    scores: dict[str, FloatArray]
    rows: dict[str, FloatArray]
    specs: dict[str, ScorerSpec]
    num_invalid: int | None = None
    unscored: dict[str, dict[int, str]] = field(default_factory=dict)

    def of_sample(self, row: int) -> dict[str, float]:
        """The scores of one sample, for `answers.jsonl`; without those in `unscored`."""
        return {name: float(s[row]) for name, s in self.scores.items() if row not in self.unscored.get(name, {})}

    def unscored_of(self, row: int) -> dict[str, str]:
        """Why a sample has no score, by metric."""
        return {name: rows[row] for name, rows in self.unscored.items() if row in rows}


def score_samples(
    names: Sequence[str],
    predictions: Sequence[str],
    targets: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    schema: Mapping[str, Any] | None = None,
    embedder: Embedder | None = None,
    run_code: bool = False,
    alpha: float = 0.05,
    may_lack: Collection[str] = (),
) -> ScoreTable:
    """Score the predictions with the scorers named (of SCORERS, or the user's own as module:function).

    Labels come from the targets and the schema is inferred from them where none is given; better give those of the
    training split. The similarity embeds by `embedder` (TF-IDF of the targets where there is none); answers are run as
    code only with `run_code`. Intervals: Wilson for 0/1 scores, t for graded ones, BCa bootstrap for corpus metrics.
    Rows that the user's own scorer fails on, or calls no number, are named in `unscored` and never scored 0; where
    these are all, a metric of `may_lack` has no value. Raises ScoreError for another one, or where one of foretune's
    scorers fails on any row.
    """
    _check_texts(predictions, targets)
    specs = {name: find_scorer(name) for name in names}
    context = _context(specs.values(), targets, labels, schema)
    context |= _tools(specs.values(), targets, embedder, run_code=run_code)
    scores: dict[str, FloatArray] = {}
    rows: dict[str, FloatArray] = {}
    metrics: dict[str, Metric] = {}
    unscored: dict[str, dict[int, str]] = {}
    for name, spec in specs.items():
        extra = (context[spec.needs],) if spec.needs in context else ()
        function: SampleScorer | BatchedScorer | CorpusMetric | None = spec.function
        if isinstance(function, CorpusMetric):
            rows[name] = function.rows(predictions, targets, *extra)
            metrics[name] = _corpus_metric(rows[name], function, targets, alpha)
            function = function.sample
        if isinstance(function, BatchedScorer):
            scores[name] = _checked(function.scores(predictions, targets, *extra), spec)
        elif function is not None and spec.is_foreign:
            scores[name], holes = _foreign_scores(function, spec, predictions, targets, extra)
            if len(holes) == len(targets) and name not in may_lack:
                raise ScoreError(
                    f"{name} scores no row; it fails on row 0: {holes[0]}",
                    fix=f"mend {name}: of an answer that it cannot read it may say 0",
                )
            unscored |= {name: holes} if holes else {}
        elif function is not None:
            scores[name] = _sample_scores(function, spec, predictions, targets, extra)
        if spec.kind != "corpus":
            known_scores = scores[name][np.isfinite(scores[name])]
            metrics |= {name: _mean_metric(known_scores, spec, alpha)} if known_scores.size else {}
    known = context.get("labels")
    num_invalid = sum(known.parse(text) is None for text in predictions) if isinstance(known, Labels) else None
    return ScoreTable(len(targets), metrics, scores, rows, specs, num_invalid, unscored)


def compare_scores(
    metric: str,
    baseline: ScoreTable,
    candidate: ScoreTable,
    *,
    groups: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    look: int = 1,
    margin: float = MARGIN,
) -> PairedResult:
    """The paired comparison of two systems on one metric, by the test that fits its kind.

    Both tables must be of the same samples in the same order, scored with the same labels and schema. Samples that
    one of them has no score for are left out. Raises ScoreError where none is left.
    """
    for table in (baseline, candidate):
        if metric not in table.metrics:
            raise ScoreError(f"{metric!r} was not scored, expected one of {', '.join(table.metrics)}")
    spec = candidate.specs[metric]
    if isinstance(spec.function, CorpusMetric):
        rows = baseline.rows[metric], candidate.rows[metric]
        return compare_paired_metric(*rows, spec.function.of_sums, groups, alpha, look, margin=margin)
    kept = paired_rows(metric, baseline, candidate)
    if not kept.any():
        raise ScoreError(f"no sample has a {metric} score of both systems", fix=f"mend {metric}")
    return compare_paired(
        baseline.scores[metric][kept],
        candidate.scores[metric][kept],
        "binary" if spec.kind == "binary" else "graded",
        None if groups is None else [group for group, is_kept in zip(groups, kept, strict=True) if is_kept],
        alpha,
        look,
        margin=margin,
        score_range=spec.score_range,
    )


def unscored_words(tables: Mapping[str, ScoreTable]) -> list[str]:
    """What to say of answers that the user's own scorers gave no number for, by system: a sentence for each metric."""
    found: dict[str, dict[str, ScoreTable]] = {}
    for system, table in tables.items():
        for metric in table.unscored:
            found.setdefault(metric, {})[system] = table
    return [_unscored(metric, lacking) for metric, lacking in found.items()]


def _unscored(metric: str, tables: Mapping[str, ScoreTable]) -> str:
    first = next(iter(tables.values())).unscored[metric]
    counts = [(len(table.unscored[metric]), table.n, system) for system, table in tables.items()]
    listed = "; ".join(f"{count} of {n} answers of {system}" for count, n, system in counts)
    why = f"row {min(first)}: {first[min(first)]}"
    return f"{metric}: {listed} have no score ({why}); they are left out, never scored 0"


def paired_rows(metric: str, baseline: ScoreTable, candidate: ScoreTable) -> NDArray[np.bool_]:
    """(n,) which samples both systems have a score for."""
    kept = np.ones(candidate.n, dtype=np.bool_)
    for table in (baseline, candidate):
        kept[list(table.unscored.get(metric, {}))] = False
    return kept


def _context(
    specs: Iterable[ScorerSpec],
    targets: Sequence[str],
    labels: Sequence[str] | None,
    schema: Mapping[str, Any] | None,
) -> dict[str, object]:
    """What the scorers need beside the two texts, made once."""
    needs = {spec.needs for spec in specs}
    context: dict[str, object] = {}
    if "labels" in needs:
        context["labels"] = Labels.from_targets(targets) if labels is None else Labels.of(labels)
    if "schema" in needs:
        context["schema"] = compiled_schema(infer_schema(targets) if schema is None else schema)
    if "span" in needs:
        context["span"] = Span.of(targets)
    return context


def _tools(
    specs: Iterable[ScorerSpec], targets: Sequence[str], embedder: Embedder | None, *, run_code: bool
) -> dict[str, object]:
    """What scorers work with that costs something. Raises ScoreError where answers would be run and may not be."""
    specs = list(specs)
    needs = {spec.needs for spec in specs}
    tools: dict[str, object] = {}
    if "embedder" in needs:
        tools["embedder"] = LexicalEmbedder(targets) if embedder is None else embedder
    check_may_run(specs, run_code=run_code)
    if "run_code" in needs:
        tools["run_code"] = True
    return tools


def check_may_run(specs: Iterable[ScorerSpec], *, run_code: bool) -> None:
    """Raise ScoreError where a scorer runs the answers as code and may not."""
    running = [spec.name for spec in specs if spec.needs == "run_code"]
    if running and not run_code:
        what = f"{running[0]} runs the answers as Python, which is off"
        raise ScoreError(what, fix="evaluate.advanced.run_code = true   # better in a container")


def _check_texts(predictions: Sequence[str], targets: Sequence[str]) -> None:
    if len(predictions) != len(targets) or not targets:
        raise ScoreError(
            f"{len(predictions)} predictions for {len(targets)} targets, expected one each for at least 1 sample",
            fix="score every sample of the split; an answer that failed is an empty string",
        )
    for name, texts in (("prediction", predictions), ("target", targets)):
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ScoreError(f"{name} of row {row} is {text!r}, expected text", fix="an empty answer is ''")


def _sample_scores(
    function: SampleScorer,
    spec: ScorerSpec,
    predictions: Sequence[str],
    targets: Sequence[str],
    extra: tuple[object, ...],
) -> FloatArray:
    scores = []
    for row, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        try:
            scores.append(float(function(prediction, target, *extra)))
        except ScoreError as error:
            raise ScoreError(f"{spec.name} fails on row {row}: {error.what}", fix=error.fix) from error
    return _checked(scores, spec)


def _foreign_scores(
    function: SampleScorer,
    spec: ScorerSpec,
    predictions: Sequence[str],
    targets: Sequence[str],
    extra: tuple[object, ...],
) -> tuple[FloatArray, dict[int, str]]:
    """The user's scores, NaN where there is none, and why by row."""
    scores = np.full(len(targets), np.nan)
    holes: dict[int, str] = {}
    for row, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        try:
            score = float(function(prediction, target, *extra))
            if math.isfinite(score):
                _checked([score], spec)
                scores[row] = score
            else:
                holes[row] = f"the score is {score}"
        except Exception as error:  # a function of the user may raise anything: its row is named, the run goes on
            holes[row] = error.what if isinstance(error, ScoreError) else f"{type(error).__name__}: {error}"
    return scores, holes


def _checked(scores: ArrayLike, spec: ScorerSpec) -> FloatArray:
    return checked_binary(scores, spec.name) if spec.kind == "binary" else checked_scores(scores, spec.name)


def _mean_metric(scores: FloatArray, spec: ScorerSpec, alpha: float) -> Metric:
    if spec.kind == "binary":
        return _metric(wilson(int(scores.sum()), scores.size, alpha))
    return _metric(t_mean(scores, alpha, spec.score_range))


def _corpus_metric(rows: FloatArray, function: CorpusMetric, targets: Sequence[str], alpha: float) -> Metric:
    signature = function.signature(targets) if function.signature else ""
    return _metric(bca_interval(rows, function.of_sums, alpha), signature)


def _metric(interval: Interval, signature: str = "") -> Metric:
    return Metric(interval.value, interval.low, interval.high, interval.n, interval.method, signature)
