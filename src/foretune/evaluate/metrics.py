"""Which metrics a job is judged by, fixed before training, and what their scorers need from the training targets."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.config.job import JobConfig
from foretune.data.embed.door import open_embedder
from foretune.data.embed.vectors import Embedder
from foretune.data.samples import Sample
from foretune.errors import ConfigError, DataError, NotFound
from foretune.evaluate.guards import guard_margins
from foretune.evaluate.scorers.registry import default_metrics, find_scorer
from foretune.evaluate.scorers.table import ScoreTable, score_samples

__all__ = [
    "BITS_PER_BYTE",
    "EXACT_MATCH",
    "PERPLEXITY",
    "Scoring",
    "build_scoring",
    "choose_primary_metric",
    "is_raw_text",
    "read_schema",
]

BITS_PER_BYTE = "bits_per_byte"
PERPLEXITY = "perplexity"
EXACT_MATCH = "exact_match"
NUMBER_METRICS = ("number_closeness", "absolute_error", "spearman")
LABEL_METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall")


@dataclass(frozen=True)
class Scoring:
    """The metrics of a job, the one that decides first, and what they need: labels and schema of the training split."""

    primary: str
    names: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    embedder: Embedder | None = None
    run_code: bool = False

    def score(self, predictions: Sequence[str], targets: Sequence[str]) -> ScoreTable:
        """Every metric of the predictions; a label that only the targets know counts as a label too.

        The user's own metric that none of these answers can be scored by is missing, unless it decides.
        """
        labels = None if self.labels is None else (*self.labels, *sorted(self.unknown_labels(targets)))
        return score_samples(
            self.names,
            predictions,
            targets,
            labels=labels,
            schema=self.schema,
            embedder=self.embedder,
            run_code=self.run_code,
            may_lack=set(self.names) - {self.primary},
        )

    def unknown_labels(self, targets: Sequence[str]) -> set[str]:
        """Labels among the targets that training never saw."""
        return set() if self.labels is None else {target.strip() for target in targets} - set(self.labels)


def is_raw_text(job: JobConfig, samples: Sequence[Sample]) -> bool:
    """Whether the model learns text as such, so that there is no answer to score but only how well it predicts."""
    return job.train.method == "pretrain" or not any(sample.target for sample in samples)


def choose_primary_metric(job: JobConfig, train_samples: Sequence[Sample], task: str = "") -> str:
    """The metric that decides: the job's, else by what the training targets look like.

    `task` is what the data was found to be (chat, classify, text). To be called before training. Raises ConfigError
    for a metric that does not fit, ScoreError for an unknown one.
    """
    wanted = job.evaluate.primary_metric
    if is_raw_text(job, train_samples):
        if wanted not in ("", BITS_PER_BYTE):
            raise _unfit(wanted, "raw text has no targets", BITS_PER_BYTE)
        return BITS_PER_BYTE
    if wanted == BITS_PER_BYTE:
        raise _unfit(wanted, "the samples have targets", default_metrics(_targets(train_samples)).primary)
    if wanted:
        if find_scorer(wanted).higher_is_better is not True:
            raise _unfit(wanted, "more of it is not better", default_metrics(_targets(train_samples)).primary)
        return wanted
    if job.train.method == "regress":
        return NUMBER_METRICS[0]
    return "accuracy" if _has_classes(job, task) else default_metrics(_targets(train_samples)).primary


def build_scoring(
    job: JobConfig, primary: str, train_samples: Sequence[Sample], folder: Path, task: str = ""
) -> Scoring:
    """The primary metric, those that the targets call for, exact match and the job's own.

    Raises NotFound or DataError for the schema file, ScoreError for an unknown scorer.
    """
    targets = _targets(train_samples)
    names = [primary, *_fitting(job, targets, task)]
    if any(name in LABEL_METRICS for name in names):
        names += LABEL_METRICS
    if job.evaluate.json_schema:
        names += ["json_valid", "schema_valid"]
    wanted = (job.evaluate.primary_metric,) if job.evaluate.primary_metric else ()
    names = list(dict.fromkeys([*names, EXACT_MATCH, *wanted, *guard_margins(job), *job.evaluate.scorers]))
    needs = {find_scorer(name).needs for name in names}
    labels = tuple(sorted({target.strip() for target in targets})) if "labels" in needs else None
    schema = _schema(job, targets, folder) if "schema" in needs else None
    embedder = open_embedder(job.evaluate.advanced.embedder, corpus=targets)
    return Scoring(primary, tuple(names), labels, schema, embedder, job.evaluate.advanced.run_code)


def _fitting(job: JobConfig, targets: Sequence[str], task: str) -> tuple[str, ...]:
    """The metrics that the method and the targets call for."""
    if job.train.method == "regress":
        return NUMBER_METRICS
    usual = default_metrics(targets)
    return LABEL_METRICS if _has_classes(job, task) else (usual.primary, *usual.others)


def _has_classes(job: JobConfig, task: str) -> bool:
    return job.train.method == "classify" or "classify" in (job.data.task, task)


def _targets(samples: Sequence[Sample]) -> list[str]:
    return [sample.target for sample in samples if sample.target]


def _unfit(metric: str, why: str, instead: str) -> ConfigError:
    return ConfigError(f"evaluate.primary_metric is {metric}, but {why}", fix=f'evaluate.primary_metric = "{instead}"')


def _schema(job: JobConfig, targets: Sequence[str], folder: Path) -> dict[str, Any]:
    """The job's schema file, or the schema that the training targets follow."""
    from foretune.evaluate.scorers.structured import infer_schema

    if not job.evaluate.json_schema:
        return infer_schema(targets)
    return read_schema(folder / Path(job.evaluate.json_schema).expanduser())


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema file. Raises NotFound, DataError."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"no JSON schema {path}", fix="mend evaluate.json_schema in the job file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})", fix="mend the schema file") from None
    if not isinstance(schema, dict):
        raise DataError(f"{path}: got a {type(schema).__name__}, expected a JSON schema object", fix="mend the file")
    return schema
