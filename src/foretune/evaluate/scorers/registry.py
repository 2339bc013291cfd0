"""The table of scorers, and which of them fit a task when the user names none."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from foretune.errors import ScoreError
from foretune.evaluate.scorers import classification, code, facts, numbers, similarity, structured, text
from foretune.evaluate.scorers.custom import load_scorer
from foretune.evaluate.scorers.plugins import plugin_names, plugin_scorer
from foretune.evaluate.scorers.spec import BatchedScorer, ScorerSpec

__all__ = ["SCORERS", "WORDING", "DefaultMetrics", "default_metrics", "find_scorer"]

SCORERS: dict[str, ScorerSpec] = {
    spec.name: spec
    for spec in (
        ScorerSpec(
            "exact_match", text.exact_match, "binary", "The answer is the target, white space at the ends aside."
        ),
        ScorerSpec(
            "exact_match_normalised",
            text.exact_match_normalised,
            "binary",
            "The answer is the target, case, punctuation and articles aside (SQuAD).",
        ),
        ScorerSpec("contains", text.contains, "binary", "The target stands somewhere in the answer, case aside."),
        ScorerSpec("token_f1", text.token_f1, "graded", "Words shared with the target, F1 (SQuAD)."),
        ScorerSpec(
            "facts_f1",
            BatchedScorer(facts.facts_f1),
            "graded",
            "Names, numbers and other words that few targets hold, F1: the task and not the tone.",
        ),
        ScorerSpec("rouge_1", text.rouge_1, "graded", "Words shared with the target, F."),
        ScorerSpec("rouge_2", text.rouge_2, "graded", "Pairs of words shared with the target, F."),
        ScorerSpec("rouge_l", text.rouge_l, "graded", "Words shared with the target in the same order, F."),
        ScorerSpec("rouge_lsum", text.rouge_lsum, "graded", "Words shared with the target line by line, F."),
        ScorerSpec(
            "semantic_similarity",
            BatchedScorer(similarity.semantic_similarity),
            "graded",
            "Cosine of the embeddings of answer and target.",
            needs="embedder",
            score_range=(-1.0, 1.0),
        ),
        ScorerSpec("bleu", text.BLEU_CORPUS, "corpus", "sacreBLEU of the whole split."),
        ScorerSpec("chrf", text.CHRF_CORPUS, "corpus", "sacreBLEU's chrF2 of the whole split."),
        ScorerSpec(
            "length_chars",
            text.length_chars,
            "graded",
            "Characters of the answer.",
            higher_is_better=None,
            score_range=None,
        ),
        ScorerSpec(
            "length_words",
            text.length_words,
            "graded",
            "Words of the answer.",
            higher_is_better=None,
            score_range=None,
        ),
        ScorerSpec(
            "code_runs",
            BatchedScorer(code.code_runs),
            "binary",
            "The answer is Python that runs without an error.",
            needs="run_code",
        ),
        ScorerSpec(
            "code_same_output",
            BatchedScorer(code.code_same_output),
            "binary",
            "The answer is Python that prints what the target's code prints.",
            needs="run_code",
        ),
        ScorerSpec(
            "accuracy", classification.label_match, "binary", "The answer is exactly the right label.", needs="labels"
        ),
        ScorerSpec(
            "macro_precision",
            classification.MACRO_PRECISION,
            "corpus",
            "Precision averaged over the labels, each counting the same.",
            needs="labels",
        ),
        ScorerSpec(
            "macro_recall",
            classification.MACRO_RECALL,
            "corpus",
            "Recall averaged over the labels, each counting the same.",
            needs="labels",
        ),
        ScorerSpec(
            "macro_f1",
            classification.MACRO_F1,
            "corpus",
            "F1 averaged over the labels, each counting the same.",
            needs="labels",
        ),
        ScorerSpec("json_valid", structured.json_valid, "binary", "The answer parses as JSON as it stands."),
        ScorerSpec(
            "json_valid_unfenced",
            structured.json_valid_unfenced,
            "binary",
            "The answer parses as JSON once a code fence around it is taken off.",
        ),
        ScorerSpec(
            "schema_valid",
            structured.schema_valid,
            "binary",
            "The answer is JSON that follows the schema.",
            needs="schema",
        ),
        ScorerSpec("json_match", structured.json_match, "binary", "The answer is the same JSON value as the target."),
        ScorerSpec("field_f1", structured.field_f1, "graded", "JSON fields that are exactly right, F1."),
        ScorerSpec("number_match", numbers.number_match, "binary", "The number is the target's within 1 %."),
        ScorerSpec(
            "number_closeness",
            numbers.number_closeness,
            "graded",
            "1 - the error of a number as a share of the targets' range.",
            needs="span",
        ),
        ScorerSpec(
            "absolute_error",
            numbers.absolute_error,
            "graded",
            "How far a number is from the target, in its unit (MAE).",
            higher_is_better=False,
            needs="span",
            score_range=None,
        ),
        ScorerSpec(
            "spearman", numbers.SPEARMAN, "corpus", "How alike numbers and targets rank the samples (Spearman)."
        ),
    )
}

# Metrics of how an answer is worded; all others, and the user's own, say whether it does the task.
WORDING = frozenset(
    {"token_f1", "rouge_1", "rouge_2", "rouge_l", "rouge_lsum", "bleu", "chrf", "semantic_similarity"}
    | {"length_chars", "length_words", "json_valid", "json_valid_unfenced", "schema_valid", "code_runs"}
)

JSON_SHARE = 0.95  # of the targets that must be JSON objects or lists
MAX_LABELS = 50
MAX_COMMON_LABELS = 200  # where each label has 10 samples on average
MAX_LABEL_CHARS = 64
LONG_WORDS = 10  # median words of a target from which wording may differ and still be right


class DefaultMetrics(NamedTuple):
    """The metric that decides, and those shown beside it."""

    primary: str
    others: tuple[str, ...]


def find_scorer(name: str) -> ScorerSpec:
    """The scorer called `name`: of the table, of an installed package, or the user's own where it holds a colon."""
    if ":" in name:
        return load_scorer(name)
    if name not in SCORERS:
        offered = plugin_scorer(name)
        if offered is not None:
            return offered
        near = difflib.get_close_matches(name, [*SCORERS, *plugin_names()], n=1)
        fix = f"did you mean {near[0]}?" if near else "your own scorer is named module:function"
        raise ScoreError(f"no scorer {name!r}, expected one of {', '.join(SCORERS)}", fix=fix)
    return SCORERS[name]


def default_metrics(targets: Sequence[str]) -> DefaultMetrics:
    """Metrics by what the targets look like: JSON, labels, long text, or short answers.

    Labels: at most 50 different short targets (200 where each comes ten times on average), each of them repeated or
    at least 2 % of all, and no more than half as many as there are samples. Long text: 10 words or more in the median.
    """
    if not targets:
        raise ScoreError("there are no targets to choose metrics by, expected at least 1", fix="foretune audit")
    if _are_json(targets):
        return DefaultMetrics("json_match", ("json_valid", "schema_valid", "field_f1"))
    if _are_labels(targets):
        return DefaultMetrics("accuracy", ("macro_f1",))
    if median(len(target.split()) for target in targets) >= LONG_WORDS:
        return DefaultMetrics("rouge_l", ("bleu", "token_f1"))
    return DefaultMetrics("exact_match", ("token_f1",))


def _are_json(targets: Sequence[str]) -> bool:
    values = (structured.parse_json(target).value for target in targets)
    return sum(isinstance(value, dict | list) for value in values) >= JSON_SHARE * len(targets)


def _are_labels(targets: Sequence[str]) -> bool:
    counts = Counter(target.strip() for target in targets)
    few = len(counts) <= MAX_LABELS or (len(counts) <= MAX_COMMON_LABELS and 10 * len(counts) <= len(targets))
    if not few or 2 * len(counts) > len(targets):
        return False
    repeated = all(count > 1 or count >= 0.02 * len(targets) for count in counts.values())
    return repeated and all(0 < len(label) <= MAX_LABEL_CHARS and "\n" not in label for label in counts)
