"""What the probes of one run share: its samples, its two models, their answers, and what evaluation wrote down."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from foretune.config.job import WHOLE_METHODS
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.data.tokenizer import Tokenizer
from foretune.engine.chat import ChatEngine
from foretune.errors import DataError
from foretune.evaluate.case import Case
from foretune.evaluate.metrics import Scoring, build_scoring, is_raw_text
from foretune.evaluate.probes.references import Reference, references
from foretune.evaluate.scorers.table import ScoreTable
from foretune.evaluate.systems import longest_answer_tokens
from foretune.records.evaluation import ANSWERS_FILE, Answer, EvaluationRecord
from foretune.records.evidence import Score
from foretune.records.token_audit import TokenAuditRecord
from foretune.stats.intervals import Interval, t_mean, wilson

if TYPE_CHECKING:
    from foretune.engine.losses import Asked, Progress

__all__ = ["Answers", "NoEvidence", "Scope", "SplitName", "mean_score", "share_score"]

MOST_ROWS, QUICK_ROWS = 300, 100
BASE_ROWS = 32  # samples that the base is asked where no evaluation did
SplitName = Literal["train", "validation"]
Which = Literal["base", "fine_tuned"]


class NoEvidence(Exception):
    """A part of the evidence cannot be had; the message says why."""


class Answers(NamedTuple):
    """What the fine-tuned model says to samples, with the tokens of each answer, and the most it may have."""

    samples: list[Sample]
    texts: list[str]
    num_tokens: list[int]
    limit: int

    @property
    def targets(self) -> list[str]:
        """What was expected."""
        return [sample.target for sample in self.samples]


@dataclass
class Scope:
    """One run under observation. `quick` takes 100 samples of a split instead of 300."""

    case: Case
    quick: bool = False
    limit: int = 0  # tokens that an answer may have, as in evaluation; known once something was asked

    @property
    def num_rows(self) -> int:
        """Samples of a split that are looked at, at most."""
        return QUICK_ROWS if self.quick else MOST_ROWS

    @property
    def kind(self) -> str:
        """causal, seq2seq, classify or regress, by the method and the base."""
        from foretune.models.load import is_encoder_decoder

        method = self.case.job.train.method
        if method in ("classify", "regress"):
            return method
        return "seq2seq" if is_encoder_decoder(self.case.models.base_folder) else "causal"

    @cached_property
    def is_text(self) -> bool:
        """Whether the model learns raw text, which has no answers."""
        return is_raw_text(self.case.job, self.case.train)

    @cached_property
    def own(self) -> list[Sample]:
        """The training samples of the task itself, without general ones that were mixed in."""
        return self.case.own_train

    def split(self, name: SplitName) -> list[Sample]:
        """The drawn samples of a split, in their order."""
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[SplitName, list[Sample]]:
        case = self.case
        validation: list[Sample] = []
        if "validation" in case.dataset.splits:
            loaded = DatasetStore(case.runs_dir).load(case.dataset.version, "validation")
            validation = [sample for sample in loaded if sample.desirable is not False]
        return {"train": self.drawn(self.own, "train"), "validation": self.drawn(validation, "validation")}

    def drawn(self, samples: Sequence[Sample], name: str) -> list[Sample]:
        """At most `num_rows` samples by the job's seed, in their order."""
        if len(samples) <= self.num_rows:
            return list(samples)
        chosen = Random(f"observe/{name}/{self.case.job.seed}").sample(range(len(samples)), self.num_rows)
        return [samples[place] for place in sorted(chosen)]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the fine-tuned model is served with: its own, or that of the base under its adapter."""
        return Tokenizer.from_folder(self._artefact if self._is_whole else self.case.models.base_folder)

    @property
    def training_tokenizer(self) -> Tokenizer | None:
        """The same tokens with the chat template that training wrote down; None where it did not."""
        seen = self.token_audit
        if seen.template is None:
            return None
        return self.tokenizer.with_template(seen.template if seen.has_chat_template else None)

    @property
    def _is_whole(self) -> bool:
        return self.case.job.train.method in WHOLE_METHODS

    @property
    def _artefact(self) -> Path:
        return self.case.run_dir / self.case.training.artefact

    @property
    def max_len(self) -> int | None:
        """Positions for prompt and answer together; None where there is no limit."""
        job, limit = self.case.job, self.tokenizer.max_len
        has_virtual = job.train.method in ("prompt", "prefix")
        return limit - job.train.advanced.num_prompt_tokens if limit and has_virtual else limit

    def chat(self, which: Which = "fine_tuned") -> ChatEngine:
        """One of the two models; an adapter is folded into weights that are not quantised, which halves the time."""
        chat = self.case.models.chat(which)
        if which == "fine_tuned" and not self._is_quantised:
            from foretune.models.adapter import merge_lora

            merge_lora(chat.engine.loaded)
        return chat

    def losses(self, rows: Sequence[Asked], which: Which) -> list[np.ndarray]:
        """The loss in nats of every token asked for; the base of a quantised run lies within the fine-tuned model."""
        from foretune.engine.losses import losses_of

        is_within = which == "base" and self._is_quantised
        engine = self.chat("fine_tuned" if is_within else which).engine
        return losses_of(engine, rows, is_base=is_within, on_progress=self._told(f"{which}_losses"))

    @property
    def _is_quantised(self) -> bool:
        return self.case.job.train.advanced.quantise_base != "none"

    def _told(self, what: str) -> Progress | None:
        report = self.case.on_progress
        return None if report is None else lambda done, total: report(what, done, total)

    def references(self, name: SplitName) -> list[Reference]:
        """The drawn samples in tokens, those that fit. Raises NoEvidence where the model writes no tokens."""
        return self._references[name]

    @cached_property
    def _references(self) -> dict[SplitName, list[Reference]]:
        if self.kind not in ("causal", "seq2seq"):
            raise NoEvidence(f"method {self.case.job.train.method} writes no tokens")
        try:
            return self._references_by(self.tokenizer)
        except DataError:  # the template that serves cannot tell prompt and answer apart; training's could
            if self.training_tokenizer is None:
                raise
            return self._references_by(self.training_tokenizer)

    def _references_by(self, tokenizer: Tokenizer) -> dict[SplitName, list[Reference]]:
        return {
            name: references(samples, tokenizer, kind=self.kind, max_len=self.max_len)
            for name, samples in self._splits.items()
        }

    def answers(self, name: SplitName) -> Answers:
        """What the fine-tuned model says to the drawn samples of a split. Raises NoEvidence where there are none."""
        if name not in self._answers:
            self._answers[name] = self.answers_to(self.split(name), name)
        return self._answers[name]

    @cached_property
    def _answers(self) -> dict[SplitName, Answers]:
        return {}

    def answers_to(self, samples: Sequence[Sample], what: str, which: Which = "fine_tuned") -> Answers:
        """What a model says to samples, asked as in training; `what` names them for whoever watches."""
        if self.is_text:
            raise NoEvidence("raw text has no answers")
        if not samples:
            raise NoEvidence(f"there are no {what} samples")
        chat = self.chat(which)
        job, train = self.case.job, self.case.train
        self.limit = self.limit or longest_answer_tokens(chat, job.evaluate.max_new_tokens, train)
        prompts = [chat.prompt_ids(sample.prompt) for sample in samples]
        replies = chat.replies(
            prompts,
            max_new_tokens=self.limit,
            batch_size=self.case.batch_size,
            on_progress=self._told(f"{what}_answers"),
        )
        texts, counts = [reply.text for reply in replies], [reply.num_tokens for reply in replies]
        return Answers(list(samples), texts, counts, self.limit)

    @cached_property
    def base_answers(self) -> Answers:
        """What the base says without examples to 32 validation samples, for runs that were not evaluated."""
        samples = (self.split("validation") or self.split("train"))[:BASE_ROWS]
        return self.answers_to(samples, "base", "base")

    @cached_property
    def scoring(self) -> Scoring:
        """The primary metric alone."""
        case = self.case
        whole = build_scoring(case.job, case.primary, case.own_train, case.folder, case.dataset.task)
        return replace(whole, names=(case.primary,))

    def table(self, predictions: Sequence[str], targets: Sequence[str]) -> ScoreTable:
        """Scores of predictions on the primary metric."""
        return self.scoring.score(predictions, targets)

    def score(self, predictions: Sequence[str], targets: Sequence[str]) -> Score:
        """The primary metric with its interval."""
        metric = self.table(predictions, targets).metrics[self.case.primary]
        return Score(value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n)

    @cached_property
    def evaluation(self) -> EvaluationRecord:
        """What evaluation found. Raises NoEvidence where there was none."""
        folder = self.case.run_dir
        if not EvaluationRecord.exists(folder):
            raise NoEvidence(f"no evaluation yet: foretune evaluate {folder.name}")
        return EvaluationRecord.read(folder)

    def recorded_by(self, system: str) -> list[Answer]:
        """A system's answers that evaluation wrote down, the only sight of the sealed test samples; [] if none."""
        return self._recorded.get(system, [])

    @cached_property
    def _recorded(self) -> dict[str, list[Answer]]:
        path = self.case.run_dir / ANSWERS_FILE
        found: dict[str, list[Answer]] = defaultdict(list)
        for answer in _read_answers(path) if path.is_file() else ():
            found[answer.system].append(answer)
        return found

    @cached_property
    def token_audit(self) -> TokenAuditRecord:
        """What training wrote down of its rows. Raises NoEvidence where it did not."""
        if not TokenAuditRecord.exists(self.case.run_dir):
            raise NoEvidence("training left no token audit")
        return TokenAuditRecord.read(self.case.run_dir)


def _read_answers(path: Path) -> list[Answer]:
    with open(path, encoding="utf-8") as file:
        return [Answer.model_validate(json.loads(line)) for line in file if line.strip()]


def share_score(count: int, n: int) -> Score:
    """A share with Wilson's interval."""
    return _score(wilson(count, n))


def mean_score(values: Sequence[float], *, limits: tuple[float, float] | None = (0.0, 1.0)) -> Score:
    """A mean with Student's interval."""
    return _score(t_mean(values, score_range=limits))


def _score(interval: Interval) -> Score:
    return Score(value=interval.value, ci_low=interval.low, ci_high=interval.high, n=interval.n)
