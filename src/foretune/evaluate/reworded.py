"""The rewording test: what was learned by heart is no longer answered in other words, beyond what rewording costs."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.data.samples import Sample
from foretune.errors import ConfigError, DataError
from foretune.evaluate.case import Case, open_case
from foretune.evaluate.journal import Journal
from foretune.evaluate.probes.scope import Scope, SplitName
from foretune.evaluate.prompts import Asked
from foretune.evaluate.rewording import RULES, reworded_sample, rewording
from foretune.evaluate.scorers.table import ScoreTable, compare_scores, unscored_words
from foretune.evaluate.systems import Progress, answers_to, longest_answer_tokens
from foretune.records.base import write_atomically
from foretune.records.reworded import REWORDED_ANSWERS, Finding, RewordedRecord, RewordedSplit, Surplus
from foretune.stats.paired import PairedResult

__all__ = ["measure_reworded"]

HOME = "reworded"  # of the run folder: the answers that are there already
LEAST_SAMPLES = 5  # of a split that other words were found for
WANTED_ROWS, MOST_WORDINGS = 100, 4  # of fewer samples each is reworded several times
PROPORTIONATE = "they had more to lose, and lost no larger share of it, which proves nothing"
EVEN = 0.1  # upper end of the surplus fall: no more than this harms nobody


class _Pairs(NamedTuple):
    """The samples of one split that other words were found for, each rewording with the place of its sample."""

    name: SplitName
    samples: list[Sample]
    places: list[int]
    reworded: list[Sample]
    num_unchanged: int

    @property
    def seen(self) -> list[Sample]:
        """The sample of each rewording."""
        return [self.samples[place] for place in self.places]

    @property
    def groups(self) -> list[str]:
        """The declared group of each rewording's sample, else the sample itself: its rewordings are no samples."""
        return [self.samples[place].group or f"\0{place}" for place in self.places]


class _Scored(NamedTuple):
    """Both answers to each sample of a split, their scores, and the fall of the primary metric."""

    pairs: _Pairs
    seen_texts: list[str]
    reworded_texts: list[str]
    seen: ScoreTable
    reworded: ScoreTable
    fall: PairedResult


def measure_reworded(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    by: str = RULES,
    quick: bool = False,
    on_progress: Progress | None = None,
) -> RewordedRecord:
    """Ask the trained run in `run_dir` up to 300 samples (`quick`: 100) of train and validation, as seen and reworded.

    `by` rules, or the model `URL#MODEL` of an OpenAI-compatible endpoint. Writes reworded.json and reworded.jsonl; what
    was measured so already is read. Answers and rewordings are kept as they come, so that a stopped test goes on. The
    test split stays sealed. Raises NotFound where the run is not trained, ConfigError where it gives no answers,
    DataError where too few samples can be reworded, ServeError where the endpoint does not answer.
    """
    began = time.monotonic()
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    test = _Test(Scope(case, quick), by)
    if (kept := test.kept()) is not None:
        return kept
    splits: tuple[SplitName, SplitName] = ("train", "validation")
    train, validation = (test.scored(pairs) for pairs in [test.pairs(name) for name in splits])
    record = _record(case, by, test.key, train, validation, time.monotonic() - began)
    rows = [json.dumps(row, ensure_ascii=False) for scored in (train, validation) for row in _rows(scored)]
    write_atomically(run_dir / REWORDED_ANSWERS, "".join(f"{row}\n" for row in rows).encode("utf-8", "replace"))
    record.write(run_dir)
    return record


@dataclass
class _Test:
    """One run under test; rewordings and answers go into a journal of their own, and stay there for the next way."""

    scope: Scope
    by: str

    def __post_init__(self) -> None:
        case = self.scope.case
        self._reword = rewording(self.by, case.job.seed)
        if self.scope.is_text:
            raise ConfigError(
                f"{case.run_dir.name} learned raw text, which has no questions to reword",
                fix=f"foretune diagnose {case.run_dir.name}",
            )
        home = case.run_dir / HOME
        home.mkdir(exist_ok=True)
        self.key = f"{case.journal.key}/{self.scope.num_rows}/{self.by}"
        self.journal = Journal(home, self.key)

    def kept(self) -> RewordedRecord | None:
        """What was measured in the same way on the same model, None where nothing was."""
        folder = self.scope.case.run_dir
        record = RewordedRecord.read(folder) if RewordedRecord.exists(folder) else None
        return record if record is not None and record.key == self.key else None

    def pairs(self, name: SplitName) -> _Pairs:
        """The samples of a split both ways. Raises DataError where there are too few."""
        samples = [sample for sample in self.scope.split(name) if sample.target]
        found = [self._twins(sample, f"{name}/{place}", len(samples)) for place, sample in enumerate(samples)]
        kept = [(sample, twins) for sample, twins in zip(samples, found, strict=True) if twins]
        if len(kept) < LEAST_SAMPLES:
            by_model = "--model URL#MODEL rewords what no rule fits" if self.by == RULES else "use another model"
            raise DataError(
                f"{len(kept)} of {len(samples)} {name} samples could be reworded, expected {LEAST_SAMPLES} or more",
                fix=by_model if len(samples) >= LEAST_SAMPLES else f"collect more {name} samples",
            )
        return _Pairs(
            name,
            [sample for sample, _ in kept],
            [place for place, (_, twins) in enumerate(kept) for _ in twins],
            [twin for _, twins in kept for twin in twins],
            len(samples) - len(kept),
        )

    def _twins(self, sample: Sample, place: str, num_samples: int) -> list[Sample]:
        """The sample in other words, several times where there are few, each another one."""
        wanted = max(1, min(MOST_WORDINGS, WANTED_ROWS // num_samples))
        twins = [self._twin(sample, place, number) for number in range(wanted)]
        return list({twin.input_text: twin for twin in twins if twin is not None}.values())

    def _twin(self, sample: Sample, place: str, number: int) -> Sample | None:
        """The sample in other words; those of a model are kept, as they cost something."""
        if self.by == RULES:
            return reworded_sample(sample, self._reword, number)

        def said() -> str:
            twin = reworded_sample(sample, self._reword, number)
            return "" if twin is None else twin.input_text

        text: str = self.journal.once(f"words/{place}/{number}", said)
        return reworded_sample(sample, lambda *_: text, number) if text else None

    def scored(self, pairs: _Pairs) -> _Scored:
        """Both answers to each sample, and what the other words cost."""
        once = self._texts(f"{pairs.name}_as_seen", pairs.samples)
        seen_texts = [once[place] for place in pairs.places]
        reworded_texts = self._texts(f"{pairs.name}_reworded", pairs.reworded)
        targets = [sample.target for sample in pairs.seen]
        seen, reworded = (self.scope.table(texts, targets) for texts in (seen_texts, reworded_texts))
        fall = compare_scores(self.scope.case.primary, reworded, seen, groups=pairs.groups)
        return _Scored(pairs, seen_texts, reworded_texts, seen, reworded, fall)

    def _texts(self, name: str, samples: Sequence[Sample]) -> list[str]:
        case, chat = self.scope.case, self.scope.chat()
        limit = longest_answer_tokens(chat, case.job.evaluate.max_new_tokens, case.train)
        system = answers_to(
            [Asked(chat.prompt_ids(sample.prompt), 0) for sample in samples],
            chat,
            name=name,
            description="",
            max_new_tokens=limit,
            batch_size=case.batch_size,
            on_progress=case.on_progress,
            once=self.journal.once,
        )
        return system.predictions


def _record(case: Case, by: str, key: str, train: _Scored, validation: _Scored, seconds: float) -> RewordedRecord:
    seen, control = _split(case.primary, train), _split(case.primary, validation)
    finding = _finding(seen, control, train.fall.span)
    tables = {f"{one.pairs.name} {how}": table for one in (train, validation) for how, table in _tables(one).items()}
    return RewordedRecord(
        run_id=case.run_dir.name,
        primary_metric=case.primary,
        by=by,
        key=key,
        artefact_sha256=case.training.artefact_sha256,
        train=seen,
        validation=control,
        surplus=_surplus(seen, control),
        finding=finding,
        reason=_reason(finding, case.primary, seen, control),
        seconds=seconds,
        warnings=tuple(unscored_words(tables)),
    )


def _tables(scored: _Scored) -> dict[str, ScoreTable]:
    return {"as seen": scored.seen, "reworded": scored.reworded}


def _split(primary: str, scored: _Scored) -> RewordedSplit:
    pairs, fall = scored.pairs, scored.fall
    return RewordedSplit(
        seen=scored.seen.metrics[primary].value,
        reworded=scored.reworded.metrics[primary].value,
        fall=fall.value,
        ci_low=fall.ci_low,
        ci_high=fall.ci_high,
        n=len(pairs.samples),
        num_wordings=len(pairs.reworded),
        num_unchanged=pairs.num_unchanged,
    )


def _surplus(train: RewordedSplit, validation: RewordedSplit) -> Surplus:
    """The difference of two falls of different samples, from their own intervals (Zou and Donner 2008, MOVER)."""
    value = train.fall - validation.fall
    below = math.hypot(train.fall - train.ci_low, validation.ci_high - validation.fall)
    above = math.hypot(train.ci_high - train.fall, validation.fall - validation.ci_low)
    return Surplus(value=value, ci_low=value - below, ci_high=value + above)


def _finding(train: RewordedSplit, validation: RewordedSplit, span: float) -> Finding:
    """What is proven; `span` is the highest minus the lowest possible score.

    By heart asks that training loses a larger share of its score too: what scores little cannot fall far.
    """
    surplus = _surplus(train, validation)
    if surplus.ci_low > 0:
        return "by_heart" if _share_lost(train) > _share_lost(validation) else "unclear"
    return "even" if surplus.ci_high <= EVEN * span < train.seen else "unclear"


def _share_lost(split: RewordedSplit) -> float:
    return split.fall / split.seen if split.seen > 0 else 0.0


def _reason(finding: Finding, metric: str, train: RewordedSplit, validation: RewordedSplit) -> str:
    """One sentence with its figures."""
    surplus = _surplus(train, validation)
    falls = (
        f"In other words training samples lose {train.fall:.3f} of {metric}, validation samples {validation.fall:.3f}"
    )
    apart = f"{surplus.value:+.3f} ({surplus.ci_low:+.3f} to {surplus.ci_high:+.3f})"
    told = {
        "by_heart": "the model answers some of what it has seen by its words alone",
        "even": "what the model learned does not hang on the words it has seen",
        "unclear": "too few samples, or too mild a rewording, to say whether the model goes by words alone",
    }
    why = PROPORTIONATE if finding == "unclear" and surplus.ci_low > 0 else told[finding]
    return f"{falls}, a surplus of {apart}: {why}."


def _rows(scored: _Scored) -> Iterator[dict[str, Any]]:
    """One sample a line, for people who want to see what was reworded and how it was answered."""
    pairs = scored.pairs
    for place, (sample, twin) in enumerate(zip(pairs.seen, pairs.reworded, strict=True)):
        yield {
            "sample_id": sample.id,
            "split": pairs.name,
            "input": sample.input_text,
            "reworded": twin.input_text,
            "target": sample.target,
            "answer": scored.seen_texts[place],
            "answer_reworded": scored.reworded_texts[place],
            "scores": scored.seen.of_sample(place),
            "scores_reworded": scored.reworded.of_sample(place),
        }
