"""How surely base and fine-tuned model predict targets, their ends and the prompts before them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from foretune.engine.losses import Asked, class_losses
from foretune.errors import DataError
from foretune.evaluate.probes.references import Reference, given_another, references
from foretune.evaluate.probes.scope import NoEvidence, Scope, SplitName, Which, mean_score, share_score
from foretune.evaluate.probes.scores import scored_answers
from foretune.records.evidence import EndEvidence, PromptEvidence, SampleLoss, Score
from foretune.stats.separation import area_under_curve

__all__ = [
    "SPLITS",
    "Losses",
    "base_input_nats",
    "end_evidence",
    "input_sizes",
    "prompt_evidence",
    "sample_losses",
]

PROMPT_ROWS = 64  # training rows whose prompt is read too
OTHERS = 4  # samples behind whose prompts a target is read
OTHERS_ROWS: dict[SplitName, int] = {"train": 200, "validation": 100}  # targets that are read so, at most
SPLITS: tuple[SplitName, ...] = ("train", "validation")


class Read(NamedTuple):
    """One reference under one model: nats of each token of the prompt (where it was asked for) and of the target.

    `p_end` is the probability of the token that ends the answer.
    """

    prompt: np.ndarray
    target: np.ndarray
    p_end: float | None


class Paired(NamedTuple):
    """The fine-tuned model's nats a token of one target behind its own prompt, and behind those of other samples."""

    own: float
    others: list[float]


@dataclass(frozen=True)
class Losses:
    """The references of both splits read by both models, each once, when it is first asked for."""

    scope: Scope

    @cached_property
    def base(self) -> dict[SplitName, list[Read]]:
        """As the base reads them."""
        return self._read("base")

    @cached_property
    def tuned(self) -> dict[SplitName, list[Read]]:
        """As the fine-tuned model reads them."""
        return self._read("fine_tuned")

    def references(self, name: SplitName) -> list[Reference]:
        """The references of a split."""
        return self.scope.references(name)

    @cached_property
    def paired(self) -> dict[SplitName, dict[str, Paired]]:
        """Targets behind their own prompts and those of at least two others, by the sample's id."""
        return {name: _paired(self.scope, name) for name in SPLITS}

    def _read(self, which: Which) -> dict[SplitName, list[Read]]:
        rows = {name: self.references(name) for name in SPLITS}
        told = {name: PROMPT_ROWS if name == "train" and not self.scope.is_text else 0 for name in SPLITS}
        asked = [row.asked(with_prompt=at < told[name]) for name in SPLITS for at, row in enumerate(rows[name])]
        values = iter(self.scope.losses(asked, which))
        return {name: [_read(row, next(values)) for row in rows[name]] for name in SPLITS}


def _read(reference: Reference, nats: np.ndarray) -> Read:
    has_end = reference.end is not None
    behind = len(reference.places) + has_end
    target = nats[-behind:]
    p_end = float(np.exp(-target[-1])) if has_end else None
    return Read(nats[:-behind], target[: len(reference.places)], p_end)


def sample_losses(scope: Scope, losses: Losses) -> tuple[SampleLoss, ...]:
    """Every drawn sample of train and validation, with the score of its answer where there is one."""
    if scope.kind == "classify":
        return tuple(_class_losses(scope))
    if not scope.references("train"):
        raise NoEvidence("no training sample fits into the model")
    return tuple(row for name in SPLITS for row in _split_losses(scope, losses, name))


def _split_losses(scope: Scope, losses: Losses, name: SplitName) -> Iterator[SampleLoss]:
    rows, scores = losses.references(name), _scores(scope, name)
    paired = losses.paired[name]
    for row, base, tuned in zip(rows, losses.base[name], losses.tuned[name], strict=True):
        yield SampleLoss(
            sample_id=row.sample.id,
            split=name,
            base_nats=float(base.target.mean()),
            tuned_nats=float(tuned.target.mean()),
            score=scores.get(row.sample.id),
            base_nats_last=float(base.target[-row.num_last :].mean()),
            tuned_nats_last=float(tuned.target[-row.num_last :].mean()),
            given_others=fmean(paired[row.sample.id].others) if row.sample.id in paired else None,
        )


def _paired(scope: Scope, name: SplitName) -> dict[str, Paired]:
    rows = [] if scope.is_text else _rows_to_pair(scope, name)
    asked = [[row.asked(), *_behind_others(scope, rows, at)] for at, row in enumerate(rows)]
    whole = [one for some in asked for one in some]
    values = iter(scope.losses(whole, "fine_tuned") if whole else ())
    found = {}
    for row, some in zip(rows, asked, strict=True):
        own = float(next(values)[: len(row.places)].mean())
        others = [float(next(values).mean()) for _ in some[1:]]
        if len(others) > 1:
            found[row.sample.id] = Paired(own, others)
    return found


def _rows_to_pair(scope: Scope, name: SplitName) -> list[Reference]:
    """The drawn samples of a split; of training ones more, where a quick look draws few: wrong targets are counted."""
    most = OTHERS_ROWS[name]
    rows = scope.references(name)[:most]
    if name == "validation" or len(rows) == most:
        return rows
    drawn = {sample.id for sample in scope.split(name)}
    rest = [sample for sample in scope.own if sample.id not in drawn]
    Random(f"paired/{scope.case.job.seed}").shuffle(rest)
    try:
        more = references(rest[: most - len(rows)], scope.tokenizer, kind=scope.kind, max_len=scope.max_len)
    except DataError:  # the template that serves cannot tell prompt and answer apart
        more = []
    return [*rows, *more]


def _behind_others(scope: Scope, rows: Sequence[Reference], at: int) -> list[Asked]:
    """A target behind the prompts of samples with another input and another target, from all over the split."""
    limit, own = scope.max_len, rows[at].sample
    found: dict[int, Asked] = {}
    for number in range(1, OTHERS + 1):
        for step in range(len(rows)):
            place = (at + number * len(rows) // (OTHERS + 1) + step) % len(rows)
            other = rows[place].sample
            if place in found or other.target == own.target or other.prompt == own.prompt:
                continue
            row = given_another(rows[at], rows[place])
            if limit is None or len(row.ids) <= limit:
                found[place] = row
            break
    return list(found.values())


def _scores(scope: Scope, name: SplitName) -> dict[str, float]:
    """The primary metric of each answer by sample, {} where it has no meaning for one sample."""
    if scope.is_text or not scope.split(name):
        return {}
    table = scored_answers(scope, name)
    scores = table.scores.get(scope.case.primary)
    if scores is None:
        return {}
    ids = [sample.id for sample in scope.answers(name).samples]
    return dict(zip(ids, (float(score) for score in scores), strict=True))


def _class_losses(scope: Scope) -> Iterator[SampleLoss]:
    """The class under the head; the base has none, so its loss is that of the training shares of the classes."""
    chat = scope.chat()
    targets = [sample.target for sample in scope.case.train]
    shares = {label: targets.count(label) / len(targets) for label in set(targets)}
    for name in SPLITS:
        samples = [sample for sample in scope.split(name) if sample.target in shares]
        inputs = [chat.prompt_ids(sample.prompt) for sample in samples]
        nats, scores = class_losses(chat.engine, inputs, [one.target for one in samples]), _scores(scope, name)
        for sample, value in zip(samples, nats, strict=True):
            before = float(-np.log(shares[sample.target]))
            yield SampleLoss(
                sample_id=sample.id, split=name, base_nats=before, tuned_nats=value, score=scores.get(sample.id)
            )


def prompt_evidence(losses: Losses) -> PromptEvidence:
    """The tokens of training prompts before and after. Raises NoEvidence where prompts are no part of what is read."""
    scope = losses.scope
    if scope.is_text or scope.kind == "seq2seq":
        raise NoEvidence("prompts are no part of what this model predicts")
    pairs = zip(losses.base["train"], losses.tuned["train"], strict=True)
    read = [(base.prompt, tuned.prompt) for base, tuned in pairs if len(base.prompt)]
    if not read:
        raise NoEvidence("no training sample fits into the model")
    base, tuned = (float(np.concatenate(side).mean()) for side in zip(*read, strict=True))
    return PromptEvidence(base_nats=base, tuned_nats=tuned, n=len(read))


def end_evidence(losses: Losses) -> EndEvidence:
    """Whether the model stops, on validation samples, or on training samples where there are none."""
    scope = losses.scope
    name: SplitName = "validation" if scope.split("validation") else "train"
    answers = scope.answers(name)
    pairs = zip(losses.base[name], losses.tuned[name], strict=True)
    ends = [(base.p_end, tuned.p_end) for base, tuned in pairs if base.p_end is not None and tuned.p_end is not None]
    if not ends:
        raise NoEvidence("no token of this base ends an answer")
    target_tokens = median(len(row.places) for row in losses.references(name))
    num_ended = sum(count < answers.limit for count in answers.num_tokens)
    return EndEvidence(
        p_end=mean_score([tuned for _, tuned in ends]),
        base_p_end=fmean(base for base, _ in ends),
        ended_fraction=share_score(num_ended, len(answers.texts)),
        length_ratio=median(answers.num_tokens) / max(1.0, target_tokens),
        runs_past_target_fraction=_runs_past(answers.texts, answers.targets),
        validation_longer=_validation_longer(losses),
    )


def _validation_longer(losses: Losses) -> Score | None:
    """Splits of one source have targets of the same lengths (0.5); None where one of them is empty."""
    train, validation = ([float(len(row.places)) for row in losses.references(name)] for name in SPLITS)
    if not train or not validation:
        return None
    found = area_under_curve(train, validation)
    return Score(value=found.value, ci_low=found.low, ci_high=found.high, n=found.n)


def _runs_past(texts: Sequence[str], targets: Sequence[str]) -> float:
    pairs = [(text.strip(), target.strip()) for text, target in zip(texts, targets, strict=True)]
    return sum(bool(target) and text.startswith(target) and text != target for text, target in pairs) / len(pairs)


def input_sizes(scope: Scope) -> dict[str, Any]:
    """Tokens per character of the training texts, and the loss of a model that knows only which tokens stand there."""
    samples = scope.split("train")
    texts = [text for sample in samples for text in (sample.input_text, sample.target) if text]
    if not texts:
        raise NoEvidence("the training samples hold no text")
    encoded = scope.tokenizer.encode_batch(texts)
    return {
        "tokens_per_character": sum(map(len, encoded)) / max(1, sum(map(len, texts))),
        "uniform_nats": float(np.log(max(1, len({number for ids in encoded for number in ids})))),
    }


def base_input_nats(scope: Scope) -> float:
    """The base's loss on training inputs by themselves, per token."""
    if scope.kind != "causal":
        raise NoEvidence(f"a {scope.kind} model does not predict its inputs")
    begin = [] if scope.tokenizer.bos_id is None else [scope.tokenizer.bos_id]
    texts = [sample.input_text for sample in scope.split("train")[:PROMPT_ROWS]]
    whole = [[*begin, *ids][: scope.max_len] for ids in scope.tokenizer.encode_batch(texts)]
    rows = [Asked(ids, range(1, len(ids))) for ids in whole if len(ids) > 1]
    if not rows:
        raise NoEvidence("the training samples hold no input")
    return float(np.concatenate(scope.losses(rows, "base")).mean())
