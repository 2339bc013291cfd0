"""Whether an evaluation could start at all, asked before anything is trained: names, files, addresses, scorers."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from foretune.config.job import JobConfig
from foretune.config.settings import with_settings
from foretune.data.samples import Sample
from foretune.errors import ConfigError, ForetuneError, ScoreError
from foretune.evaluate.endpoint import open_endpoint
from foretune.evaluate.guards import guard_margins
from foretune.evaluate.hosted import hosted_models
from foretune.evaluate.metrics import Scoring, build_scoring, is_raw_text, read_schema
from foretune.evaluate.retrieval import read_passages
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import check_may_run

__all__ = ["check_evaluation", "check_scorers"]

TRIED_TARGETS = 20  # of the training split, evenly spaced


def check_evaluation(job: JobConfig, folder: Path) -> None:
    """Raise what an evaluation of the job would stumble over, so that no training is lost to it.

    Looks for the scorers, the schema, the documents, and the form of endpoints and judge (nobody is asked). Raises the
    error itself where there is one, ConfigError with all of them where there are several.
    """
    _raise_all(_checks(job, folder))


def check_scorers(
    job: JobConfig, primary: str, train: Sequence[Sample], held_out: Sequence[Sample], folder: Path, task: str
) -> None:
    """Raise where a metric that the job names cannot score this data: each scores held-out targets as the answer.

    `train` are the samples of the task itself, which metrics are set up from. The metric that decides tries every
    target, the others and those that run code a few. Embeddings are left out, for nobody is asked before training.
    Raises ScoreError, ConfigError for several faults.
    """
    samples = [sample for sample in held_out if sample.target]
    if is_raw_text(job, train) or not samples:
        return
    few = samples[:: -(-len(samples) // TRIED_TARGETS)]
    offline = with_settings(job, {"evaluate.advanced.embedder": "tfidf"})
    scoring = build_scoring(offline, primary, train, folder, task)
    checks = []
    for name in dict.fromkeys((primary, *guard_margins(job), *job.evaluate.scorers)):
        needs = find_scorer(name).needs
        tried = samples if name == primary and needs != "run_code" else few
        if needs != "embedder":
            checks.append(partial(_try_scorer, scoring, name, tried))
    _raise_all(checks)


def _try_scorer(scoring: Scoring, name: str, samples: Sequence[Sample]) -> None:
    alone = replace(scoring, primary=name, names=(name,))
    try:
        _score_targets(alone, samples)
    except ScoreError as error:
        is_decider = name == scoring.primary
        fix = "another evaluate.primary_metric" if is_decider else f"take {name} out of evaluate.scorers"
        place = next((sample.place for sample in samples if _is_beyond(alone, sample)), "")
        where = f"{place}: " if place else ""
        raise ScoreError(f"{where}{name} cannot score the target as an answer: {error.what}", fix=fix) from error


def _is_beyond(scoring: Scoring, sample: Sample) -> bool:
    try:
        _score_targets(scoring, [sample])
    except ScoreError:
        return True
    return False


def _score_targets(scoring: Scoring, samples: Sequence[Sample]) -> None:
    targets = [sample.target for sample in samples]
    scoring.score(targets, targets)


def _raise_all(checks: Iterable[Callable[[], object]]) -> None:
    """Raise what the checks raise: the error itself where there is one, else ConfigError with all of them."""
    faults: list[ForetuneError] = []
    for check in checks:
        try:
            check()
        except ForetuneError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "\n".join(f"  {fault.what}" + (f"\n    fix: {fault.fix}" if fault.fix else "") for fault in faults)
        raise ConfigError(f"{len(faults)} faults in [evaluate]:\n{listed}", fix="mend these settings")


def _checks(job: JobConfig, folder: Path) -> Iterator[Callable[[], object]]:
    config = job.evaluate
    for name in config.scorers:
        yield partial(_check_scorer, name, run_code=config.advanced.run_code)
    if config.json_schema:
        yield partial(read_schema, folder / Path(config.json_schema).expanduser())
    if config.documents:
        yield partial(read_passages, folder / Path(config.documents).expanduser())
    yield partial(guard_margins, job)
    yield partial(hosted_models, config)
    if config.judge:
        yield partial(open_endpoint, config.judge, config.advanced)


def _check_scorer(name: str, *, run_code: bool) -> None:
    check_may_run([find_scorer(name)], run_code=run_code)
