"""Scorers: what one answer is worth, metrics over a split with intervals, and the metrics that fit a task."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.evaluate.scorers.classification import ClassReport, Labels, class_report
from foretune.evaluate.scorers.registry import SCORERS, DefaultMetrics, default_metrics, find_scorer
from foretune.evaluate.scorers.spec import CorpusMetric, ScorerSpec
from foretune.evaluate.scorers.structured import infer_schema, retries_avoided
from foretune.evaluate.scorers.table import Metric, ScoreTable, compare_scores, score_samples

__all__ = [
    "SCORERS",
    "ClassReport",
    "CorpusMetric",
    "DefaultMetrics",
    "Labels",
    "Metric",
    "ScoreTable",
    "ScorerSpec",
    "class_report",
    "compare_scores",
    "default_metrics",
    "find_scorer",
    "infer_schema",
    "retries_avoided",
    "score_samples",
]
