"""Whether more data would help: the job trained again on parts of its training split, scored on validation."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretune.config.job import JobConfig
from foretune.data.mix import own_samples
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.subset import ordered_by_seed
from foretune.errors import ConfigError, DataError
from foretune.evaluate.case import Models, open_case
from foretune.evaluate.journal import Journal
from foretune.evaluate.metrics import Scoring, build_scoring, choose_primary_metric, is_raw_text
from foretune.evaluate.part_files import part_settings, write_card, write_samples
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import ScoreTable, compare_scores, unscored_words
from foretune.evaluate.systems import FINE_TUNED, Progress, answers_of, longest_answer_tokens
from foretune.models.base import resolve_base
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.failures import FailuresRecord
from foretune.records.learning_curve import CurvePart, LearningCurveRecord
from foretune.records.run import ResolvedRecord
from foretune.records.training import TrainingRecord
from foretune.stats.learning_curve import CurvePoint, Outlook, curve_outlook, most_doubling_gain, most_full_gain
from foretune.stats.paired import PairedResult

__all__ = ["CURVE_FOLDER", "SHARES", "Part", "measure_curve", "measure_early"]

CURVE_FOLDER = "learning_curve"  # of the run folder: subsets and the runs on them
SHARES = (0.1, 0.25, 0.5)  # beside all of it, which the run itself was trained on
EARLY_SHARES = SHARES[:2]  # trained before the run itself, where a prompt was measured
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


@dataclass(frozen=True)
class _Ground:
    """What every point of the curve shares; `warnings` grows."""

    job: JobConfig
    run_dir: Path
    runs_dir: Path
    folder: Path
    dataset: DatasetRecord
    primary: str
    train: list[Sample]
    warnings: list[str]

    @property
    def margin(self) -> float:
        """The smallest gain worth having, fraction."""
        return self.job.evaluate.advanced.margin

    @property
    def home(self) -> Path:
        """Where the parts and their runs stand."""
        return self.run_dir / CURVE_FOLDER


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

    The smallest part comes first: where what a part lacks to the whole shows that twice the data would gain less than
    the margin, the larger parts are not trained. What is measured is kept, so that a stopped curve goes on. Writes
    learning_curve.json. Raises ConfigError where the metric is no fraction of 0 to 1, DataError where there are too few
    samples.
    """
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    ground = _Ground(job, run_dir, runs_dir, folder, case.dataset, case.primary, case.own_train, case.warnings)
    ruler = _Ruler(ground, on_progress)
    whole = ruler.measured(1.0, ruler.num_train, run_dir, version=case.journal.key)
    measured: list[_Measured] = []
    stopped = False
    for part in ruler.parts():
        measured.append(ruler.trained(part, train_on))
        if stopped := part.share < max(SHARES) and _is_settled(ground, ruler, measured[-1], whole):
            break
    record = _record(ground, ruler, [*measured, whole], stopped)
    record.write(run_dir)
    return record


def measure_early(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    train_on: TrainOn,
    on_progress: Progress | None = None,
) -> LearningCurveRecord | None:
    """Before the run itself is trained: 10 and 25 % of its data, and whether all of it could gain anything.

    Where even the upper end of the gain over the prompted base, carried on to all of the data, is less than the margin,
    learning_curve.json says so, with the two parts alone. None where training may gain, where no prompt was measured on
    single samples, or where a part would be too small; the two parts are kept for `measure_curve`. Raises as that.
    """
    if not FailuresRecord.exists(run_dir):
        return None
    dataset = DatasetRecord.read(run_dir)
    stored = DatasetStore(runs_dir).load(dataset.version, "train")
    train = own_samples([sample for sample in stored if sample.desirable is not False])
    fixed = ResolvedRecord.read(run_dir).primary_metric if ResolvedRecord.exists(run_dir) else ""
    primary = fixed or choose_primary_metric(job, train, dataset.task)
    ground = _Ground(job, run_dir, runs_dir, folder, dataset, primary, train, [])
    ruler = _Ruler(ground, on_progress)
    prompted = _prompted_scores(ground)
    parts = [part for part in ruler.parts() if part.share in EARLY_SHARES]
    if len(parts) < len(EARLY_SHARES) or len(ruler.paired(prompted)) < FEWEST_VALIDATION:
        return None
    measured = [ruler.trained(part, train_on) for part in parts]
    most = _most_gain(ruler, prompted, measured)
    if most is None or most >= ground.margin:
        return None
    record = _record(ground, ruler, measured, stopped=True, most_gain=most)
    record.write(run_dir)
    return record


def _is_settled(ground: _Ground, ruler: _Ruler, part: _Measured, whole: _Measured) -> bool:
    """Whether twice the data is sure to gain less than the margin, by what this part lacks to the whole."""
    doublings = math.log2(whole.part.num_samples / part.part.num_samples)
    high = ruler.difference(part, whole).ci_high
    return most_doubling_gain(whole.part.score, high, doublings) < ground.margin


def _most_gain(ruler: _Ruler, prompted: dict[str, float], measured: Sequence[_Measured]) -> float | None:
    """The upper end of what all of the data gains over the prompt; None where too few samples have all three scores."""
    by_id = [prompted, *(ruler.sample_scores(one.table) for one in measured)]
    ids = [sample_id for sample_id in by_id[0] if all(sample_id in scores for scores in by_id)]
    if len(ids) < FEWEST_VALIDATION:
        return None
    rows = [np.array([scores[sample_id] for sample_id in ids]) for scores in by_id]
    small, larger = (one.part.num_samples for one in measured)
    return most_full_gain(*rows, doublings=math.log2(larger / small), left=math.log2(ruler.num_train / larger))


def _prompted_scores(ground: _Ground) -> dict[str, float]:
    """The prompted base's scores by validation sample, if they are of the metric that decides."""
    record = FailuresRecord.read(ground.run_dir)
    return record.sample_scores if record.metric == ground.primary else {}


def _scoring(ground: _Ground) -> Scoring:
    if is_raw_text(ground.job, ground.train):
        raise ConfigError(
            "a learning curve needs answers to score, and this job learns raw text", fix="compare eval_loss: compare"
        )
    spec = find_scorer(ground.primary)
    if spec.score_range != (0.0, 1.0) and not spec.is_foreign:
        raise _no_fraction(ground.primary)
    return build_scoring(ground.job, ground.primary, ground.train, ground.folder, ground.dataset.task)


def _no_fraction(metric: str) -> ConfigError:
    what = f"{metric} is no score from 0 to 1, which the curve's rule needs"
    return ConfigError(what, fix='evaluate.primary_metric = "exact_match", in a new run')


def _validation(ground: _Ground) -> list[Sample]:
    """Up to 500 validation samples; the test split stays sealed."""
    split = ground.dataset.splits.get("validation")
    samples = DatasetStore(ground.runs_dir).load(ground.dataset.version, "validation") if split else []
    samples = [sample for sample in samples if sample.desirable is not False]
    if len(samples) < FEWEST_VALIDATION:
        raise DataError(
            f"{len(samples)} validation samples cannot show a learning curve, expected {FEWEST_VALIDATION} or more",
            fix="add rows, or raise data.validation_fraction",
        )
    return ordered_by_seed(samples, ground.job.seed)[:MOST_VALIDATION]


def _key(ground: _Ground) -> str:
    """What training on a part and its answers depend on."""
    job = ground.job
    settings = [job.train.model_dump(mode="json"), job.evaluate.model_dump(mode="json")]
    parts = [job.base, job.seed, *settings, ground.dataset.version, ground.primary]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class _Ruler:
    """Trains parts once and scores runs on the validation samples; runs and answers are kept in the journal."""

    def __init__(self, ground: _Ground, on_progress: Progress | None) -> None:
        self._ground, self._on_progress = ground, on_progress
        self.scoring, self._validation = _scoring(ground), _validation(ground)
        self._train = DatasetStore(ground.runs_dir).load(ground.dataset.version, "train")
        ground.home.mkdir(exist_ok=True)
        write_card(ground.home, ground.dataset)
        self._journal = Journal(ground.home, _key(ground))

    @property
    def num_train(self) -> int:
        """Samples of the whole training split."""
        return len(self._train)

    def parts(self) -> list[Part]:
        """The parts, smallest first."""
        return _parts(self._train, self._validation, self._ground.home, self._ground.job.seed)

    def trained(self, part: Part, train_on: TrainOn) -> _Measured:
        """The score of a part, which is trained where it was not yet."""
        run_dir = Path(self._journal.once(f"run/{part.share}", partial(_trained, train_on, part)))
        return self.measured(part.share, part.num_samples, run_dir)

    def measured(self, share: float, num_samples: int, run_dir: Path, version: str = "") -> _Measured:
        """The score of the run in `run_dir`, which was trained on `num_samples`; `version` tells its weights apart."""
        answers = self._journal.once(f"answers/{share}/{version}", lambda: self._answers(share, run_dir))
        table = self.scoring.score(answers, [sample.target for sample in self._validation])
        known = np.array(list(self.sample_scores(table).values()))
        if ((known < 0) | (known > 1)).any():  # of the user's own scorer, whose range nobody declared
            raise _no_fraction(self._ground.primary)
        self._ground.warnings.extend(unscored_words({f"the model of {share:.0%}": table}))
        metric = table.metrics[self._ground.primary]
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

    def difference(self, before: _Measured, after: _Measured) -> PairedResult:
        """The later one less the earlier one, on the samples that both have a score for."""
        groups = [sample.group or f"\0{place}" for place, sample in enumerate(self._validation)]
        declared = groups if any(sample.group for sample in self._validation) else None
        primary, margin = self.scoring.primary, self._ground.margin
        return compare_scores(primary, before.table, after.table, groups=declared, margin=margin)

    def sample_scores(self, table: ScoreTable) -> dict[str, float]:
        """Scores by sample id, to be paired with those of other systems; none of a metric that is no mean.

        A sample that the user's own scorer gave no number for is left out here and named in the warnings.
        """
        primary = self._ground.primary
        scores, holes = table.scores.get(primary), table.unscored.get(primary, {})
        if scores is None:
            return {}
        rows = enumerate(zip(self._validation, scores, strict=True))
        return {sample.id: float(score) for row, (sample, score) in rows if row not in holes}

    def paired(self, scores: dict[str, float]) -> list[str]:
        """The validation samples that have a score."""
        return [sample.id for sample in self._validation if sample.id in scores]

    def _answers(self, share: float, run_dir: Path) -> list[str]:
        ground = self._ground
        base = resolve_base(ground.job.base, folder=ground.folder)
        artefact = run_dir / TrainingRecord.read(run_dir).artefact
        chat = Models(base, artefact, max_seq_len=ground.job.train.max_seq_len).chat("fine_tuned")
        found = answers_of(
            f"trained on {share:.0%}",
            Prompt(FINE_TUNED, "the data's own messages"),
            self._validation,
            chat,
            max_new_tokens=longest_answer_tokens(chat, ground.job.evaluate.max_new_tokens, ground.train),
            batch_size=ground.job.evaluate.advanced.batch_size,
            on_progress=self._on_progress,
        )
        return found.predictions


def _trained(train_on: TrainOn, part: Part) -> str:
    return str(train_on(part))


def _parts(train: Sequence[Sample], validation: Sequence[Sample], home: Path, seed: int) -> list[Part]:
    """The parts, smallest first, each holding the smaller ones; their files stand in `home`."""
    ordered = ordered_by_seed(train, seed)
    held_out = home / "validation.jsonl"
    write_samples(held_out, validation)
    parts = []
    for share in SHARES:
        count = round(share * len(ordered))
        if count < FEWEST_SAMPLES:
            continue
        path = home / f"train-{share:.0%}.jsonl".replace("%", "")
        write_samples(path, ordered[:count])
        parts.append(Part(share, count, part_settings(path, held_out)))
    if not parts:
        raise DataError(
            f"{len(ordered)} training samples cannot be divided, expected {2 * FEWEST_SAMPLES} or more",
            fix="collect more data first: foretune collect --help",
        )
    return parts


def _record(
    ground: _Ground, ruler: _Ruler, measured: Sequence[_Measured], stopped: bool, most_gain: float | None = None
) -> LearningCurveRecord:
    """The record; `most_gain` where the curve stopped before the run itself was trained."""
    points = [CurvePoint(m.part.num_samples, m.part.score, m.part.n, m.part.ci_low, m.part.ci_high) for m in measured]
    change = ruler.difference(measured[-2], measured[-1])
    found = curve_outlook(points, (change.value, change.ci_low, change.ci_high), margin=ground.margin)
    is_flat = stopped and most_gain is None
    prompted = _prompted(ground)
    return LearningCurveRecord(
        run_id=ground.run_dir.name,
        metric=ground.primary,
        parts=tuple(m.part for m in measured),
        answer="flat" if is_flat else found.answer,
        last_doubling_gain=found.gain,
        gain_low=change.ci_low,
        gain_high=change.ci_high,
        full_score=measured[-1].part.score,
        predicted_score=found.predicted,
        predicted_low=found.low,
        predicted_high=found.high,
        samples_for_margin=None if is_flat else found.samples_for_margin,
        margin=ground.margin,
        prompted_score=prompted,
        stopped_early=stopped,
        advice=_advice(found, measured, prompted, ground.margin, stopped)
        if most_gain is None
        else _early_advice(measured, ruler.num_train, most_gain, ground.margin),
        sample_scores=ruler.sample_scores(measured[-1].table),
        warnings=tuple(ground.warnings),
    )


def _early_advice(measured: Sequence[_Measured], num_train: int, most: float, margin: float) -> str:
    seen = ", ".join(f"{one.part.num_samples:,} samples score {one.part.score:.1%}" for one in measured)
    return (
        f"Training on all {num_train:,} samples will not gain {margin:.0%} over the prompted base: {seen}; carried on, "
        f"the gain is {100 * most:+.1f} points at most. It was not trained further."
    )


def _prompted(ground: _Ground) -> float | None:
    """The best prompt's score on validation, where the run was evaluated or its base measured."""
    if not EvaluationRecord.exists(ground.run_dir):
        if not FailuresRecord.exists(ground.run_dir):
            return None
        failures = FailuresRecord.read(ground.run_dir)
        return failures.baseline.value if failures.metric == ground.primary else None
    rows = EvaluationRecord.read(ground.run_dir).prompt_choices
    scores = [float(row["score"]) for row in rows if str(row.get("chosen_as", "")).startswith("base_")]
    return max(scores, default=None)


def _advice(found: Outlook, measured: Sequence[_Measured], prompted: float | None, margin: float, stopped: bool) -> str:
    """Would more data help, how much, how many: in one or two sentences."""
    last = measured[-1].part
    if stopped or found.answer == "flat":
        first = measured[-2].part
        said = (
            f"More data of this kind will not help: {first.num_samples:,} samples score {first.score:.1%}, "
            f"{last.num_samples:,} {last.score:.1%}"
        )
        if prompted is not None and last.score < prompted + margin:
            return f"{said}, and no better than the prompted base. Mend the data, or do not fine-tune."
        if last.score > 1 - margin:
            return f"{said}: no more than {1 - last.score:.1%} is left to gain."
        return f"{said}. Better data, another base or another method may."
    expected = (
        f"twice the data: about {found.predicted:.0%} ({found.low:.0%} to {found.high:.0%}), now {last.score:.0%}"
    )
    need = f"; about {found.samples_for_margin:,} samples for {margin:.0%} more" if found.samples_for_margin else ""
    if found.answer == "helps":
        return f"More data would help; {expected}{need}."
    return f"Not clear yet whether more data would help: the last doubling gained {found.gain:+.1%}; {expected}{need}."
