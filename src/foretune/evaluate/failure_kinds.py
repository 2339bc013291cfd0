"""The prompted base on validation samples before anything is trained, and its failures asked again in three ways."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foretune.config.job import JobConfig
from foretune.data.mix import own_samples
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.subset import ordered_by_seed
from foretune.engine.chat import ChatEngine
from foretune.errors import ConfigError, DataError
from foretune.evaluate.case import Models
from foretune.evaluate.gold import NUM_PASSAGES, Form, Gold, form_of, form_told, gold_context, readings
from foretune.evaluate.journal import Journal
from foretune.evaluate.kinds import Asked, KindShares, kind_shares, kinds_of, left_to_context
from foretune.evaluate.metrics import Scoring, build_scoring, choose_primary_metric, is_raw_text
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.retrieval import Bm25, read_passages
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.selection import Choice, Search, search_prompts
from foretune.evaluate.systems import (
    BASE_FEW_SHOT,
    BASE_RETRIEVAL,
    BASE_ZERO_SHOT,
    FINE_TUNED,
    Progress,
    answers_of,
    longest_answer_tokens,
)
from foretune.models.base import resolve_base
from foretune.records.base import write_atomically
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FAILURES_FILE, FailedSample, FailuresRecord, Share
from foretune.records.learning_curve import LearningCurveRecord
from foretune.records.run import ResolvedRecord
from foretune.records.training import TrainingRecord
from foretune.stats.checks import FloatArray
from foretune.stats.intervals import t_mean, wilson
from foretune.stats.paired import compare_paired

__all__ = ["DECIDE_FOLDER", "measure_failures", "measure_left"]

DECIDE_FOLDER = "decide"  # of the run folder: the journal of what was asked
MOST_VALIDATION = 500
LEAST_SCORED = 100  # samples kept out of the choice of the prompt, where there are as many
LEAST_VALIDATION = 8
PLACEBO = "Read the question with care before you answer."


class _Scored(NamedTuple):
    answers: list[str]
    scores: FloatArray


@dataclass
class _Ground:
    """What measuring needs of a run: its samples, its metric, its base, and the journal."""

    job: JobConfig
    run_dir: Path
    folder: Path
    dataset: DatasetRecord
    train: list[Sample]
    validation: list[Sample]
    scoring: Scoring
    metric: str
    models: Models
    journal: Journal
    on_progress: Progress | None

    @property
    def limit(self) -> int:
        """Tokens that an answer may have."""
        chat = self.models.chat("base")
        wanted = self.job.evaluate.max_new_tokens
        return int(self.journal.once("max_new_tokens", lambda: longest_answer_tokens(chat, wanted, self.train)))

    def asked(self, name: str, prompt: Prompt, samples: Sequence[Sample], chat: ChatEngine) -> _Scored:
        """The answers to samples in one way, from the journal where they are there, and their scores."""
        if not samples:
            return _Scored([], np.zeros(0))
        found = answers_of(
            name,
            prompt,
            samples,
            chat,
            max_new_tokens=self.limit,
            batch_size=self.job.evaluate.advanced.batch_size,
            on_progress=self.on_progress,
            once=self.journal.once,
        )
        return _Scored(found.predictions, self.scores(found.predictions, samples))

    def scores(self, answers: Sequence[str], samples: Sequence[Sample]) -> FloatArray:
        """Scores of answers, 0 to 1, one a sample."""
        only = replace(self.scoring, names=(self.metric,))
        table = only.score(answers, [sample.target for sample in samples])
        return np.asarray(table.scores[self.metric], dtype=np.float64)


def measure_failures(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    ask_again: bool = True,
    on_progress: Progress | None = None,
) -> FailuresRecord:
    """Choose the base's best prompt, score it on validation samples, and ask its failures again (gates 1 and 2).

    Without `ask_again` the kinds of the failures stay unknown. Nothing needs to be trained, and the test split stays
    sealed. Writes failures.json and failures.jsonl; a killed measurement goes on where it stood. Raises ConfigError
    where answers cannot be scored sample by sample, DataError where there are too few validation samples.
    """
    began = time.monotonic()
    ground = _open(job, run_dir, runs_dir, folder, on_progress)
    chosen_on, scored = _parted(ground.validation, job.evaluate.advanced.max_validation_samples)
    library = read_passages(folder / Path(job.evaluate.documents).expanduser()) if job.evaluate.documents else None
    prompts, choice = _prompts(ground, chosen_on, library)
    prompt, chat = _best(prompts, choice), ground.models.chat("base")
    first = ground.asked("prompted", prompt, scored, chat)
    failed = [place for place, score in enumerate(first.scores) if score < 1]
    samples = [scored[place] for place in failed]
    again = _asked_again(ground, prompt, samples, library, first, failed) if ask_again else None
    shares = kind_shares(again.asked) if again is not None else KindShares(None, None, None, None)
    retrieval = prompts.get(BASE_RETRIEVAL)
    looked_up = None if retrieval is None else ground.asked("retrieval", retrieval, scored, chat).scores
    record = FailuresRecord(
        run_id=run_dir.name,
        base=job.base,
        dataset_version=ground.dataset.version,
        metric=ground.metric,
        prompt=prompt.name,
        prompt_description=prompt.description,
        num_prompts_tried=len(choice.candidates),
        num_chosen_on=len(chosen_on),
        baseline=_metric(first.scores),
        num_failures=len(failed),
        knowledge=shares.knowledge,
        format=shares.format,
        behaviour=shares.behaviour,
        placebo=shares.placebo,
        context_source="none" if again is None else again.gold.source,
        retrieval=None if looked_up is None else _metric(looked_up),
        retrieval_gain=None if looked_up is None else _gain(first.scores, looked_up),
        sample_scores={sample.id: float(score) for sample, score in zip(scored, first.scores, strict=True)},
        notes=tuple(_notes(chosen_on, scored, again, choice)),
        seconds=round(time.monotonic() - began, 3),
    )
    rows = [] if again is None else again.rows(samples, [first.answers[place] for place in failed])
    write_atomically(run_dir / FAILURES_FILE, "".join(row.model_dump_json() + "\n" for row in rows))
    record.write(run_dir)
    return record


def measure_left(
    job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path, on_progress: Progress | None = None
) -> FailuresRecord:
    """Ask the failures of the trained model again with the facts: what retrieval would add to training.

    Reads failures.json and learning_curve.json and writes the first anew. Nothing is asked where there are no facts.
    Raises NotFound where a record is missing.
    """
    record, curve = FailuresRecord.read(run_dir), LearningCurveRecord.read(run_dir)
    if record.context_source in ("none", "examples") or job.train.method in ("classify", "regress"):
        return record
    ground = _open(job, run_dir, runs_dir, folder, on_progress)
    ids = set(record.sample_scores) & set(curve.sample_scores)
    samples = [sample for sample in ground.validation if sample.id in ids]
    failed = [sample for sample in samples if curve.sample_scores[sample.id] < 1]
    library = read_passages(folder / Path(job.evaluate.documents).expanduser()) if job.evaluate.documents else None
    gold = gold_context(failed, ground.train, library, ground.scoring.labels)
    chat = ground.models.chat("fine_tuned")
    asked = Prompt(FINE_TUNED, "the data's own messages", num_passages=NUM_PASSAGES)
    facts = ground.asked("tuned with context", replace(asked, library=gold), failed, chat).scores
    placebo = ground.asked("tuned with placebo", replace(asked, library=gold.turned()), failed, chat).scores
    before = np.array([curve.sample_scores[sample.id] for sample in samples], dtype=np.float64)
    after, by_chance = before.copy(), before.copy()
    places = [place for place, score in enumerate(before) if score < 1]
    after[places], by_chance[places] = facts, placebo
    updated = record.model_copy(update={"tuned_left": left_to_context(before, after, by_chance)})
    updated.write(run_dir)
    return updated


def _open(job: JobConfig, run_dir: Path, runs_dir: Path, folder: Path, on_progress: Progress | None) -> _Ground:
    dataset = DatasetRecord.read(run_dir)
    store = DatasetStore(runs_dir)
    stored = store.load(dataset.version, "train")
    train = own_samples([sample for sample in stored if sample.desirable is not False])
    if is_raw_text(job, train):
        raise ConfigError("raw text has no answers that could fail", fix="give samples with targets, or --measure none")
    held = store.load(dataset.version, "validation") if "validation" in dataset.splits else []
    validation = ordered_by_seed([sample for sample in held if sample.desirable is not False], job.seed)
    if len(validation) < LEAST_VALIDATION:
        raise DataError(
            f"{len(validation)} validation samples, expected {LEAST_VALIDATION} or more to measure the base on",
            fix="add rows, or raise data.validation_fraction",
        )
    fixed = ResolvedRecord.read(run_dir).primary_metric if ResolvedRecord.exists(run_dir) else ""
    primary = fixed or choose_primary_metric(job, train, dataset.task)
    scoring = build_scoring(job, primary, train, folder, dataset.task)
    base = resolve_base(job.base, folder=folder)
    artefact = run_dir / TrainingRecord.read(run_dir).artefact if TrainingRecord.exists(run_dir) else run_dir
    key = [job.base, job.seed, job.evaluate.model_dump(mode="json"), dataset.version, primary, _trained(run_dir)]
    home = run_dir / DECIDE_FOLDER
    home.mkdir(exist_ok=True)
    return _Ground(
        job,
        run_dir,
        folder,
        dataset,
        train,
        validation[:MOST_VALIDATION],
        scoring,
        _sample_metric(scoring),
        Models(base, artefact, max_seq_len=job.train.max_seq_len),
        Journal(home, hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]),
        on_progress,
    )


def _trained(run_dir: Path) -> dict[str, str]:
    return TrainingRecord.read(run_dir).artefact_sha256 if TrainingRecord.exists(run_dir) else {}


def _sample_metric(scoring: Scoring) -> str:
    """The metric that failures are counted by: the primary one where it scores single samples from 0 to 1."""
    spec = find_scorer(scoring.primary)
    if spec.score_range != (0.0, 1.0) or spec.kind == "corpus":
        raise ConfigError(
            f"{scoring.primary} does not score single answers from 0 to 1, so no failure can be counted",
            fix='evaluate.primary_metric = "exact_match" (or "accuracy"), in a new run',
        )
    return scoring.primary


def _parted(validation: list[Sample], most: int) -> tuple[list[Sample], list[Sample]]:
    """The samples that the prompt is chosen on, and those that it is scored on: others, where there are enough."""
    chosen_on = validation[:most]
    rest = validation[len(chosen_on) :]
    return chosen_on, rest if len(rest) >= LEAST_SCORED else validation


def _prompts(ground: _Ground, chosen_on: list[Sample], library: Bm25 | None) -> tuple[dict[str, Prompt], Choice]:
    job, chat = ground.job, ground.models.chat("base")
    search = Search(
        ground.scoring, ground.train, chosen_on, job.evaluate.few_shot, job.evaluate.instructions, job.seed, library
    )
    batch = job.evaluate.advanced.batch_size
    found = partial(
        search_prompts, search, chat, max_new_tokens=ground.limit, batch_size=batch, on_progress=ground.on_progress
    )
    choice = Choice(*ground.journal.once("prompts", found))
    return search.chosen(choice), choice


def _best(prompts: dict[str, Prompt], choice: Choice) -> Prompt:
    """The better of the best prompts without and with examples; on a tie the one with."""
    scores = {row["chosen_as"]: row["score"] for row in choice.candidates}
    plain, few = scores.get(BASE_ZERO_SHOT, 0.0), scores.get(BASE_FEW_SHOT, -1.0)
    return prompts[BASE_FEW_SHOT] if BASE_FEW_SHOT in prompts and few >= plain else prompts[BASE_ZERO_SHOT]


class _Again(NamedTuple):
    """The failures asked again: scores by way, the answers, and where the facts came from."""

    asked: Asked
    gold: Gold
    with_format: _Scored
    with_context: _Scored | None
    with_placebo: _Scored

    def rows(self, samples: Sequence[Sample], answers: Sequence[str]) -> list[FailedSample]:
        """One line for each failed sample."""
        scores, lenient = np.asarray(self.asked.scores), np.asarray(self.asked.lenient)
        kinds = kinds_of(self.asked)
        facts = self.with_context
        return [
            FailedSample(
                sample_id=sample.id,
                input=sample.input_text,
                expected=sample.target,
                answer=answers[row],
                score=float(scores[row]),
                lenient_score=float(lenient[row]),
                format_answer=self.with_format.answers[row],
                as_format=float(self.with_format.scores[row]),
                context_answer="" if facts is None else facts.answers[row],
                with_context=None if facts is None else float(facts.scores[row]),
                placebo_answer=self.with_placebo.answers[row],
                with_placebo=float(self.with_placebo.scores[row]),
                kind=kinds[row],
            )
            for row, sample in enumerate(samples)
        ]


def _asked_again(
    ground: _Ground,
    prompt: Prompt,
    samples: list[Sample],
    library: Bm25 | None,
    first: _Scored,
    failed: Sequence[int],
) -> _Again:
    """Ask the failures with the form stated, with the facts, and with a placebo of either."""
    chat, targets = ground.models.chat("base"), [sample.target for sample in ground.train]
    form = form_of(targets[:200], ground.scoring.labels)
    answers, scores = [first.answers[place] for place in failed], first.scores[list(failed)]
    lenient = _lenient(ground, answers, samples, form)
    stated = ground.asked("form stated", _telling(prompt, form_told(form, targets)), samples, chat)
    read = _lenient(ground, stated.answers, samples, form)
    stated = stated._replace(scores=np.maximum(stated.scores, read))
    gold = gold_context(samples, ground.train, library, ground.scoring.labels)
    facts, placebo = None, _telling(prompt, PLACEBO)
    if gold.source != "none":
        wanted = replace(prompt, num_passages=NUM_PASSAGES, library=gold)
        facts = ground.asked("right facts", wanted, samples, chat)
        placebo = replace(prompt, num_passages=NUM_PASSAGES, library=gold.turned())
    chance = ground.asked("placebo", placebo, samples, chat)
    # Without any source of facts nothing is looked up by anyone: knowledge is no kind that could be mended.
    with_context = None if facts is None else facts.scores
    asked = Asked(scores, lenient, stated.scores, with_context, chance.scores)
    return _Again(asked, gold, stated, facts, chance)


def _telling(prompt: Prompt, told: str) -> Prompt:
    return replace(prompt, told="\n".join(part for part in (prompt.told, told) if part))


def _lenient(ground: _Ground, answers: Sequence[str], samples: Sequence[Sample], form: Form) -> FloatArray:
    """The best score of any lenient reading of each answer."""
    options = [readings(answer, form) for answer in answers]
    best = np.zeros(len(samples))
    for turn in range(max((len(one) for one in options), default=0)):
        rows = [row for row, one in enumerate(options) if turn < len(one)]
        texts = [options[row][turn] for row in rows]
        best[rows] = np.maximum(best[rows], ground.scores(texts, [samples[row] for row in rows]))
    return best


def _metric(scores: FloatArray) -> MetricValue:
    """A score with its interval: Wilson's for 0 and 1, t for what lies between."""
    is_binary = bool(np.isin(scores, (0.0, 1.0)).all())
    found = wilson(int(scores.sum()), scores.size) if is_binary else t_mean(scores)
    return MetricValue(value=found.value, ci_low=found.low, ci_high=found.high, n=found.n, method=found.method)


def _gain(before: FloatArray, after: FloatArray) -> Share:
    is_binary = bool(np.isin(np.concatenate([before, after]), (0.0, 1.0)).all())
    found = compare_paired(before, after, "binary" if is_binary else "graded")
    return Share(value=found.value, ci_low=found.ci_low, ci_high=found.ci_high)


def _notes(chosen_on: Sequence[Sample], scored: Sequence[Sample], again: _Again | None, choice: Choice) -> list[str]:
    said = list(choice.warnings)
    if {sample.id for sample in chosen_on} & {sample.id for sample in scored}:
        said.append(f"the prompt was chosen on the samples that it is scored on ({len(chosen_on)}): a little too good")
    source = "" if again is None else again.gold.source
    if source == "examples":
        said.append("no facts are given: the training examples most like question and answer stood in for them")
    if source == "none":
        said.append(
            "no facts are given (evaluate.documents, or a field `context`): missing knowledge was not looked for"
        )
    return said
