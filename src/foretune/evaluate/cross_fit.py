"""A verdict for few data: the job trained again on all but each of K parts, every sample scored by who never saw it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretune.config.job import JobConfig
from foretune.data.samples import Sample
from foretune.data.split import alike_folds
from foretune.errors import ConfigError, DataError
from foretune.evaluate.case import Case, Models, open_case
from foretune.evaluate.comparison import MOST_UNSCORED, judge, without_verdict
from foretune.evaluate.journal import Journal
from foretune.evaluate.metrics import Scoring, build_scoring, is_raw_text
from foretune.evaluate.part_files import part_settings, write_card, write_samples
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.retrieval import read_passages
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import ScoreTable, paired_rows, unscored_words
from foretune.evaluate.selection import Choice, Search, search_prompts
from foretune.evaluate.systems import (
    CONSTANT,
    FINE_TUNED,
    Progress,
    answers_of,
    constant_answer,
    longest_answer_tokens,
)
from foretune.models.base import resolve_base
from foretune.records.base import write_atomically
from foretune.records.cross_fit import CrossFitRecord, Fold
from foretune.records.evaluation import MetricValue
from foretune.records.training import TrainingRecord
from foretune.stats.checks import FloatArray
from foretune.stats.cross_fit import FEWEST_FOLDS, compare_cross_fitted

__all__ = ["CROSS_FIT_ANSWERS", "CROSS_FIT_FOLDER", "FoldData", "measure_cross_fit"]

CROSS_FIT_FOLDER = "cross_fit"  # of the run folder: the parts and the runs on the rest of them
CROSS_FIT_ANSWERS = "cross_fit.jsonl"
FEWEST_A_FOLD = 4


class FoldData(NamedTuple):
    """What one run learns from: how many samples, and the settings that put its files in place of the job's data."""

    number: int
    num_samples: int
    settings: dict[str, Any]


class _Answered(NamedTuple):
    """Both systems' answers to the samples of one part; `rows` are their places in the training split."""

    rows: list[int]
    run_dir: Path
    num_trained_on: int
    baseline: list[str]
    candidate: list[str]


TrainOn = Callable[[FoldData], Path]  # trains the run's job on a fold's data and returns the run folder


def measure_cross_fit(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    train_on: TrainOn,
    num_folds: int,
    on_progress: Progress | None = None,
) -> CrossFitRecord:
    """Train K times, score every training sample once, and compare with the best prompt on the same samples.

    Prompts are chosen on validation and show examples of the other parts alone; the test split stays sealed. What is
    done is kept, so that a stopped one goes on. Writes cross_fit.json and cross_fit.jsonl. Raises ConfigError for a
    metric that is no mean over samples or fewer than 3 parts, DataError where there are too few samples.
    """
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    scoring = _scoring(case)
    folds = _folds(case, num_folds)
    home = run_dir / CROSS_FIT_FOLDER
    home.mkdir(exist_ok=True)
    write_card(home, case.dataset)
    journal = Journal(home, f"{case.journal.key}/{num_folds}")
    validation = case.validation()
    search, choice, limit = _baseline(case, scoring, validation, journal)
    answered = [
        _answered(case, search, choice, limit, journal, number, rows, home, train_on)
        for number, rows in enumerate(folds, start=1)
    ]
    record = _record(case, scoring, choice, answered)
    record.write(run_dir)
    return record


def _scoring(case: Case) -> Scoring:
    spec = None if is_raw_text(case.job, case.own_train) else find_scorer(case.primary)
    if spec is None or spec.kind == "corpus":
        raise ConfigError(
            f"{case.primary} is no mean of scores of samples, which cross-fitting needs",
            fix='evaluate.primary_metric = "exact_match", in a new run',
        )
    return build_scoring(case.job, case.primary, case.own_train, case.folder, case.dataset.task)


def _folds(case: Case, num_folds: int) -> list[list[int]]:
    if num_folds < FEWEST_FOLDS:
        raise ConfigError(
            f"{num_folds} parts are too few to cross-fit, expected at least {FEWEST_FOLDS}", fix="--cross-fit 10"
        )
    if len(case.own_train) < FEWEST_A_FOLD * num_folds:
        raise DataError(
            f"{len(case.own_train)} training samples cannot make {num_folds} parts of {FEWEST_A_FOLD} or more",
            fix=f"--cross-fit {max(FEWEST_FOLDS, len(case.own_train) // FEWEST_A_FOLD)}, or collect more data",
        )
    return alike_folds(case.own_train, num_folds, seed=case.job.seed)


def _baseline(
    case: Case, scoring: Scoring, validation: Sequence[Sample], journal: Journal
) -> tuple[Search, Choice, int]:
    """What the prompts are made of, which one is best on validation, and how long an answer may be."""
    evaluate = case.job.evaluate
    documents = case.folder / Path(evaluate.documents).expanduser() if evaluate.documents else None
    library = read_passages(documents) if documents is not None else None
    search = Search(
        scoring, case.own_train, validation, evaluate.few_shot, evaluate.instructions, case.job.seed, library
    )
    limit = int(
        journal.once(
            "max_new_tokens",
            lambda: longest_answer_tokens(case.models.chat("base"), evaluate.max_new_tokens, case.own_train),
        )
    )

    def chosen() -> Choice:
        return search_prompts(
            search,
            case.models.chat("base"),
            max_new_tokens=limit,
            batch_size=case.batch_size,
            on_progress=case.on_progress,
        )

    choice = Choice(*journal.once("prompts", chosen))
    case.warnings += choice.warnings
    return search, choice, limit


def _answered(
    case: Case,
    search: Search,
    choice: Choice,
    limit: int,
    journal: Journal,
    number: int,
    rows: list[int],
    home: Path,
    train_on: TrainOn,
) -> _Answered:
    """Train on all but the part of `rows`, and let both systems answer it."""
    held_out = set(rows)
    rest = [sample for row, sample in enumerate(case.own_train) if row not in held_out]
    part = [case.own_train[row] for row in rows]
    general = [sample for sample in case.train if sample.meta.get("mixed")]
    data = _written(case, search.validation, [*rest, *general], number, home)
    run_dir = Path(journal.once(f"run/{number}", lambda: str(train_on(data))))
    ask = partial(_answers, case, part, limit, number)
    baseline = journal.once(f"baseline/{number}", lambda: ask(replace(search, train=rest), choice, None))
    candidate = journal.once(f"candidate/{number}", lambda: ask(search, choice, run_dir))
    return _Answered(rows, run_dir, len(rest), baseline, candidate)


def _answers(
    case: Case, part: Sequence[Sample], limit: int, number: int, search: Search, choice: Choice, run_dir: Path | None
) -> list[str]:
    """The answers of the run in `run_dir`, or of the baseline that was chosen."""
    if run_dir is None and choice.baseline == CONSTANT:
        return [constant_answer(search.train) or ""] * len(part)
    if run_dir is None:
        models, prompt = case.models, search.chosen(choice)[choice.baseline]
    else:
        base = resolve_base(case.job.base, folder=case.folder)
        artefact = run_dir / TrainingRecord.read(run_dir).artefact
        models = Models(base, artefact, max_seq_len=case.job.train.max_seq_len)
        prompt = Prompt(FINE_TUNED, "the data's own messages")
    return answers_of(
        f"part {number}: {choice.baseline if run_dir is None else FINE_TUNED}",
        prompt,
        part,
        models.chat("base" if run_dir is None else "fine_tuned"),
        max_new_tokens=limit,
        batch_size=case.batch_size,
        on_progress=case.on_progress,
    ).predictions


def _written(case: Case, validation: Sequence[Sample], rest: Sequence[Sample], number: int, home: Path) -> FoldData:
    """The files of one run: the other parts to learn from, the job's own validation samples to stop by."""
    path, held_out = home / f"train-{number}.jsonl", home / "validation.jsonl"
    write_samples(path, rest)
    write_samples(held_out, validation)
    return FoldData(number, len(rest), part_settings(path, held_out if validation else None))


def _record(case: Case, scoring: Scoring, choice: Choice, answered: Sequence[_Answered]) -> CrossFitRecord:
    samples = [case.own_train[row] for fold in answered for row in fold.rows]
    folds = [number for number, fold in enumerate(answered) for _ in fold.rows]
    targets = [sample.target for sample in samples]
    before = scoring.score([text for fold in answered for text in fold.baseline], targets)
    after = scoring.score([text for fold in answered for text in fold.candidate], targets)
    _write_answers(case, scoring.primary, samples, folds, answered, before, after)
    case.warnings += unscored_words({choice.baseline: before, FINE_TUNED: after})
    kept = np.flatnonzero(paired_rows(scoring.primary, before, after)).tolist()
    spec, margin = after.specs[scoring.primary], case.job.evaluate.advanced.margin
    scores = [table.scores[scoring.primary] for table in (before, after)]
    result = compare_cross_fitted(
        scores[0][kept],
        scores[1][kept],
        [folds[row] for row in kept],
        "binary" if spec.kind == "binary" else "graded",
        _groups(samples, kept),
        margin=margin,
        score_range=spec.score_range,
    )
    said = judge(result, margin)
    if len(samples) - len(kept) > MOST_UNSCORED * len(samples):
        said = without_verdict(said, scoring.primary, len(samples) - len(kept), len(samples))
    of_fold = np.array(folds)
    return CrossFitRecord(
        run_id=case.run_dir.name,
        metric=scoring.primary,
        n=result.n,
        num_folds=len(answered),
        baseline=choice.baseline,
        baseline_score=_value(before, scoring.primary),
        candidate_score=_value(after, scoring.primary),
        delta=said.delta,
        smallest_visible_difference=said.smallest_visible_difference,
        n_needed=said.n_needed,
        margin=margin,
        verdict=said.verdict.value,
        reason=said.verdict.reason,
        folds=tuple(
            Fold(
                run_id=fold.run_dir.name,
                num_trained_on=fold.num_trained_on,
                n=len(fold.rows),
                baseline=_mean(scores[0][of_fold == number]),
                candidate=_mean(scores[1][of_fold == number]),
            )
            for number, fold in enumerate(answered)
        ),
        warnings=tuple(case.warnings),
    )


def _mean(scores: FloatArray) -> float | None:
    """Of the samples that have a score; None where none has."""
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if known.size else None


def _value(table: ScoreTable, name: str) -> MetricValue:
    metric = table.metrics[name]
    return MetricValue(
        value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n, method=metric.method
    )


def _groups(samples: Sequence[Sample], kept: Sequence[int]) -> list[str] | None:
    if not any(sample.group for sample in samples):
        return None
    return [samples[row].group or f"\0{row}" for row in kept]


def _write_answers(
    case: Case,
    metric: str,
    samples: Sequence[Sample],
    folds: Sequence[int],
    answered: Sequence[_Answered],
    before: ScoreTable,
    after: ScoreTable,
) -> None:
    """One line a sample: both answers with their scores, null where there is none."""
    texts = [pair for fold in answered for pair in zip(fold.baseline, fold.candidate, strict=True)]
    lines = []
    for row, (sample, fold, (base, tuned)) in enumerate(zip(samples, folds, texts, strict=True)):
        line = {"sample_id": sample.id, "fold": fold + 1, "expected": sample.target}
        line |= {"baseline": base, "baseline_score": before.of_sample(row).get(metric)}
        line |= {"candidate": tuned, "candidate_score": after.of_sample(row).get(metric)}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomically(case.run_dir / CROSS_FIT_ANSWERS, "".join(lines))
