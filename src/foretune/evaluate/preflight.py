"""Whether an evaluation could start at all, asked before anything is trained: names, files, addresses, all at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from foretune.config.job import JobConfig
from foretune.errors import ConfigError, ForetuneError
from foretune.evaluate.endpoint import open_endpoint
from foretune.evaluate.hosted import hosted_models
from foretune.evaluate.metrics import read_schema
from foretune.evaluate.retrieval import read_passages
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import check_may_run

__all__ = ["check_evaluation"]


def check_evaluation(job: JobConfig, folder: Path) -> None:
    """Raise what an evaluation of the job would stumble over, so that no training is lost to it.

    Looks for the scorers, the schema, the documents, and the form of endpoints and judge (nobody is asked). Raises the
    error itself where there is one, ConfigError with all of them where there are several.
    """
    faults: list[ForetuneError] = []
    for check in _checks(job, folder):
        try:
            check()
        except ForetuneError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "\n".join(f"  {fault.what}" + (f"\n    fix: {fault.fix}" if fault.fix else "") for fault in faults)
        raise ConfigError(f"{len(faults)} faults in [evaluate]:\n{listed}", fix="mend these lines of the job file")


def _checks(job: JobConfig, folder: Path) -> Iterator[Callable[[], object]]:
    config = job.evaluate
    for name in config.scorers:
        yield partial(_check_scorer, name, run_code=config.advanced.run_code)
    if config.json_schema:
        yield partial(read_schema, folder / Path(config.json_schema).expanduser())
    if config.documents:
        yield partial(read_passages, folder / Path(config.documents).expanduser())
    yield partial(hosted_models, config)
    if config.judge:
        yield partial(open_endpoint, config.judge, config.advanced)


def _check_scorer(name: str, *, run_code: bool) -> None:
    check_may_run([find_scorer(name)], run_code=run_code)
