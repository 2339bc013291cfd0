"""Whether more data would help: the job trained again on parts of its training split, scored on validation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.subset import ordered_by_seed
from foretune.data.write import proved_row
from foretune.errors import ConfigError, DataError
from foretune.evaluate.case import Case, Models, open_case
from foretune.evaluate.journal import Journal
from foretune.evaluate.metrics import Scoring, build_scoring, is_raw_text
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import ScoreTable, compare_scores
from foretune.evaluate.systems import FINE_TUNED, Progress, answers_of, longest_answer_tokens
from foretune.models.base import resolve_base
from foretune.records.base import write_atomically
from foretune.records.evaluation import EvaluationRecord
from foretune.records.learning_curve import CurvePart, LearningCurveRecord
from foretune.records.training import TrainingRecord
from foretune.stats.learning_curve import CurvePoint, Outlook, curve_outlook
from foretune.stats.paired import PairedResult

__all__ = ["CURVE_FOLDER", "SHARES", "Part", "measure_curve"]

CURVE_FOLDER = "learning_curve"  # of the run folder: subsets and the runs on them
SHARES = (0.1, 0.25, 0.5)  # beside all of it, which the run itself was trained on
FEWEST_SAMPLES = 8  # a part of fewer is left out
FEWEST_VALIDATION = 20
MOST_VALIDATION = 500


class Part(NamedTuple):
    """A part of the training split: how much it is, and the settings that put its files in place of the job's data."""

    share: float
    num_samples: int
    settings: dict[str, Any]


class _Measured(NamedTuple):
    part: CurvePart
    table: ScoreTable


TrainOn = Callable[[Part], Path]  # trains the run's job on a part and returns the run folder


def measure_curve(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    train_on: TrainOn,
    on_progress: Progress | None = None,
) -> LearningCurveRecord:
    """Train on nested parts, score each on the validation samples, and carry the curve on to twice the data.

    The smallest part comes first: where it does as well as all of the data, the others are not trained. What is
    measured is kept, so that a stopped curve goes on. Writes learning_curve.json. Raises ConfigError where the metric
    is no fraction of 0 to 1, DataError where there are too few samples.
    """
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    scoring, validation = _scoring(case), _validation(case)
    train = DatasetStore(runs_dir).load(case.dataset.version, "train")
    home = run_dir / CURVE_FOLDER
    home.mkdir(exist_ok=True)
    ruler = _Ruler(case, scoring, validation, Journal(home, case.journal.key))
    whole = ruler.measured(1.0, len(train), run_dir)
    measured: list[_Measured] = []
    stopped = False
    for part in _parts(train, validation, home, job.seed):
        trained = Path(ruler.journal.once(f"run/{part.share}", partial(_trained, train_on, part)))
        measured.append(ruler.measured(part.share, part.num_samples, trained))
        if len(measured) == 1:
            change = _difference(case, scoring, measured[0], whole, validation)
            if stopped := change.ci_high < case.job.evaluate.advanced.margin and part.share < max(SHARES):
                break
    record = _record(case, scoring, [*measured, whole], validation, stopped)
    record.write(run_dir)
    return record


def _trained(train_on: TrainOn, part: Part) -> str:
    return str(train_on(part))


def _scoring(case: Case) -> Scoring:
    if is_raw_text(case.job, case.train):
        raise ConfigError(
            "a learning curve needs answers to score, and this job learns raw text", fix="compare eval_loss: compare"
        )
    spec = find_scorer(case.primary)
    if spec.score_range != (0.0, 1.0):
        raise ConfigError(
            f"{case.primary} is no score from 0 to 1, which the curve's rule needs",
            fix='evaluate.primary_metric = "exact_match", in a new run',
        )
    return build_scoring(case.job, case.primary, case.train, case.folder, case.dataset.task)


def _validation(case: Case) -> list[Sample]:
    """Up to 500 validation samples; the test split stays sealed."""
    split = case.dataset.splits.get("validation")
    samples = DatasetStore(case.runs_dir).load(case.dataset.version, "validation") if split else []
    samples = [sample for sample in samples if sample.desirable is not False]
    if len(samples) < FEWEST_VALIDATION:
        raise DataError(
            f"{len(samples)} validation samples cannot show a learning curve, expected {FEWEST_VALIDATION} or more",
            fix="add rows, or raise data.validation_fraction",
        )
    return ordered_by_seed(samples, case.job.seed)[:MOST_VALIDATION]


class _Ruler:
    """Scores a run on the validation samples; answers are kept in the journal."""

    def __init__(self, case: Case, scoring: Scoring, validation: Sequence[Sample], journal: Journal) -> None:
        self._case, self._scoring, self._validation = case, scoring, validation
        self.journal = journal

    def measured(self, share: float, num_samples: int, run_dir: Path) -> _Measured:
        """The score of the run in `run_dir`, which was trained on `num_samples`."""
        answers = self.journal.once(f"answers/{share}", lambda: self._answers(share, run_dir))
        table = self._scoring.score(answers, [sample.target for sample in self._validation])
        metric = table.metrics[self._case.primary]
        part = CurvePart(
            share=share,
            num_samples=num_samples,
            score=metric.value,
            ci_low=metric.ci_low,
            ci_high=metric.ci_high,
            n=metric.n,
            run_id=run_dir.name,
        )
        return _Measured(part, table)

    def _answers(self, share: float, run_dir: Path) -> list[str]:
        case = self._case
        base = resolve_base(case.job.base, folder=case.folder)
        models = Models(base, run_dir / TrainingRecord.read(run_dir).artefact, max_seq_len=case.job.train.max_seq_len)
        chat = models.chat("fine_tuned")
        found = answers_of(
            f"trained on {share:.0%}",
            Prompt(FINE_TUNED, "the data's own messages"),
            self._validation,
            chat,
            max_new_tokens=longest_answer_tokens(chat, case.job.evaluate.max_new_tokens, case.train),
            batch_size=case.batch_size,
            on_progress=case.on_progress,
        )
        return found.predictions


def _parts(train: Sequence[Sample], validation: Sequence[Sample], home: Path, seed: int) -> list[Part]:
    """The parts, smallest first, each holding the smaller ones; their files stand in `home`."""
    ordered = ordered_by_seed(train, seed)
    held_out = home / "validation.jsonl"
    _write(held_out, validation)
    parts = []
    for share in SHARES:
        count = round(share * len(ordered))
        if count < FEWEST_SAMPLES:
            continue
        path = home / f"train-{share:.0%}.jsonl".replace("%", "")
        _write(path, ordered[:count])
        parts.append(Part(share, count, _settings(path, held_out)))
    if not parts:
        raise DataError(
            f"{len(ordered)} training samples cannot be divided, expected {2 * FEWEST_SAMPLES} or more",
            fix="collect more data first: foretune collect --help",
        )
    return parts


def _settings(path: Path, held_out: Path) -> dict[str, Any]:
    """The job's data fields for a part: two files as they are, nothing split off, mixed in or cut."""
    empty = ["system", "input_field", "target_field", "group_field", "time_field", "mix_path", "production_path"]
    empty += ["test_path", "advanced.train_until", "advanced.validate_until"]
    values: dict[str, Any] = dict.fromkeys(empty, "")
    values |= {"path": str(path.resolve()), "validation_path": str(held_out.resolve()), "task": "auto"}
    values |= {"max_rows": 0, "test_fraction": 0.0, "validation_fraction": 0.0, "advanced.noisy_test": 0.0}
    return {f"data.{name}": value for name, value in values.items()}


def _write(path: Path, samples: Sequence[Sample]) -> None:
    rows = (proved_row(sample, _form(sample)) for sample in samples)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _form(sample: Sample) -> str:
    if sample.desirable is not None:
        return "kto"
    if sample.rejected:
        return "preference"
    return "text" if sample.is_text else "messages"


def _difference(
    case: Case, scoring: Scoring, before: _Measured, after: _Measured, validation: Sequence[Sample]
) -> PairedResult:
    groups = [sample.group or f"\0{place}" for place, sample in enumerate(validation)]
    declared = groups if any(sample.group for sample in validation) else None
    margin = case.job.evaluate.advanced.margin
    return compare_scores(scoring.primary, before.table, after.table, groups=declared, margin=margin)


def _record(
    case: Case, scoring: Scoring, measured: Sequence[_Measured], validation: Sequence[Sample], stopped: bool
) -> LearningCurveRecord:
    points = [CurvePoint(m.part.num_samples, m.part.score, m.part.n, m.part.ci_low, m.part.ci_high) for m in measured]
    change = _difference(case, scoring, measured[-2], measured[-1], validation)
    margin = case.job.evaluate.advanced.margin
    found = curve_outlook(points, (change.value, change.ci_low, change.ci_high), margin=margin)
    prompted = _prompted(case)
    return LearningCurveRecord(
        run_id=case.run_dir.name,
        metric=case.primary,
        parts=tuple(m.part for m in measured),
        answer="flat" if stopped else found.answer,
        last_doubling_gain=found.gain,
        gain_low=change.ci_low,
        gain_high=change.ci_high,
        full_score=measured[-1].part.score,
        predicted_score=found.predicted,
        predicted_low=found.low,
        predicted_high=found.high,
        samples_for_margin=None if stopped else found.samples_for_margin,
        margin=margin,
        prompted_score=prompted,
        stopped_early=stopped,
        advice=_advice(found, measured, prompted, margin, stopped),
        sample_scores=_sample_scores(measured[-1].table, case.primary, validation),
        warnings=tuple(case.warnings),
    )


def _sample_scores(table: ScoreTable, metric: str, validation: Sequence[Sample]) -> dict[str, float]:
    """Scores by sample id, to be paired with those of other systems; none of a metric that is no mean."""
    scores = table.scores.get(metric)
    return {} if scores is None else {s.id: float(score) for s, score in zip(validation, scores, strict=True)}


def _prompted(case: Case) -> float | None:
    """The best prompt's score on validation, where the run was evaluated."""
    if not EvaluationRecord.exists(case.run_dir):
        return None
    rows = EvaluationRecord.read(case.run_dir).prompt_choices
    scores = [float(row["score"]) for row in rows if str(row.get("chosen_as", "")).startswith("base_")]
    return max(scores, default=None)


def _advice(found: Outlook, measured: Sequence[_Measured], prompted: float | None, margin: float, stopped: bool) -> str:
    """Would more data help, how much, how many: in one or two sentences."""
    last = measured[-1].part
    if stopped or found.answer == "flat":
        first = measured[0].part if stopped else measured[-2].part
        said = f"More data of this kind will not help: {first.num_samples:,} samples do as well as {last.num_samples:,}"
        if prompted is not None and last.score < prompted + margin:
            return f"{said}, and no better than the prompted base. Mend the data, or do not fine-tune."
        return f"{said}. Better data, another base or another method may."
    expected = (
        f"twice the data: about {found.predicted:.0%} ({found.low:.0%} to {found.high:.0%}), now {last.score:.0%}"
    )
    need = f"; about {found.samples_for_margin:,} samples for {margin:.0%} more" if found.samples_for_margin else ""
    if found.answer == "helps":
        return f"More data would help; {expected}{need}."
    return f"Not clear yet whether more data would help: the last doubling gained {found.gain:+.1%}; {expected}{need}."
