"""Rows held against their samples as text: the prompt is what serving feeds, the loss is on the whole answer."""

# SPDX-License-Identifier: Apache-2.0
#
# The mask is built by proof (data/turns.py). These checks do not trust it: they read the tokens back into text.
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from foretune.data.inputs import input_ids
from foretune.data.samples import Message, Sample
from foretune.errors import DataError
from foretune.records.token_audit import TokenFinding
from foretune.train.audited import Audited, finding, trained_positions
from foretune.train.row_checks import runs_of

__all__ = ["MAX_READ_ROWS", "TEXT_CHECKS", "is_learned_whole", "prompt_learned", "read_rows", "text_findings"]

MAX_READ_ROWS = 2000
LEAST_CHARACTERS = 12  # shorter messages ("yes") stand in answers by chance
TEXT_CHECKS = {
    "TOK040": (
        "the row does not begin with what serving feeds the model",
        "the model is trained on one prompt and asked with another",
        "let the generation prompt of the chat template be a beginning of the whole conversation",
    ),
    "TOK041": (
        "tokens of the prompt carry loss",
        "the model learns to write questions instead of answering them",
        'train.advanced.train_on = "assistant"',
    ),
    "TOK042": (
        "parts of the answer carry no loss",
        "the model never learns them",
        "mend the chat template: its answers must hold the whole text of the message",
    ),
}


class ReadRow(NamedTuple):
    """A row with its sample and the check it fails ("" if none)."""

    row: int
    failed: str
    evidence: str


def text_findings(audited: Audited) -> Iterator[TokenFinding]:
    """Findings of up to 2,000 rows, evenly spread; none where rows and samples are not one to one."""
    failed = [row for row in read_rows(audited) if row.failed]
    for number, (title, reason, fix) in TEXT_CHECKS.items():
        bad = [row for row in failed if row.failed == number]
        if bad:
            indices = [one.row for one in bad]
            evidence = [one.evidence for one in bad[:3]]
            yield finding(number, "stop", title, reason, audited=audited, rows=indices, evidence=evidence, fix=fix)


def read_rows(audited: Audited) -> list[ReadRow]:
    """Each row that was read with the first check that it fails."""
    samples = audited.aligned
    if samples is None:
        return []
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(MAX_READ_ROWS, len(samples))).round().astype(int))
    return [_read(audited, int(index), samples[int(index)]) for index in chosen]


def _read(audited: Audited, index: int, sample: Sample) -> ReadRow:
    for number, test in _tests(audited, sample):
        evidence = test(audited, index, sample)
        if evidence:
            return ReadRow(index, number, evidence)
    return ReadRow(index, "", "")


def _tests(audited: Audited, sample: Sample) -> Iterator[tuple[str, Callable[[Audited, int, Sample], str]]]:
    yield "TOK040", _fed_otherwise
    if audited.kind == "causal" and not sample.is_text:
        if audited.train_on == "assistant":
            yield "TOK041", prompt_learned
        yield "TOK042", _answer_not_learned


def _fed_otherwise(audited: Audited, index: int, sample: Sample) -> str:
    """TOK040: the ids that serving feeds are those at the head of the row (decoder), its source, or the whole of it."""
    row = audited.train[index]
    try:
        fed = input_ids(sample, audited.tokenizer, kind=audited.input_kind, max_seq_len=audited.max_seq_len)
    except DataError as error:
        return error.what
    own = row.source if row.source is not None else row.ids if audited.kind != "causal" else row.ids[: len(fed)]
    if list(own) == list(fed):
        return ""
    at = next((i for i, (a, b) in enumerate(zip(own, fed, strict=False)) if a != b), min(len(own), len(fed)))
    trained, served = audited.texts_of(own[at : at + 8]), audited.texts_of(fed[at : at + 8])
    return f"token {at}: training {trained!r}, serving {served!r}"


def prompt_learned(audited: Audited, index: int, sample: Sample) -> str:
    """TOK041: where what is learned holds a message of another role, or something before the only answer; else ""."""
    row = audited.train[index]
    chosen = trained_positions(row)
    learned = _squeezed(audited.texts_of(row.ids[chosen]))
    answers = "".join(_read_back(message, audited) for message in sample.messages if _is_learned(message))
    for message in sample.messages:
        text = _read_back(message, audited)
        is_answer = message.role == "assistant" and message.learn
        if not is_answer and len(text) >= LEAST_CHARACTERS and text in learned and text not in answers:
            return f"{message.role}: {message.content[:60]!r}"
    return _learned_before_an_answer(audited, index, sample, chosen)


def _learned_before_an_answer(audited: Audited, index: int, sample: Sample, chosen: np.ndarray) -> str:
    """The last token that is fed before each learned answer carries no loss, and before the first none does."""
    row, is_first = audited.train[index], True
    for number, message in enumerate(sample.messages):
        if not _is_learned(message):
            continue
        ids = audited.tokenizer.encode(audited.tokenizer.render(sample.messages[:number], True, sample.tools))
        begin = 0 if is_first else len(ids) - 1
        is_first = False
        if list(row.ids[: len(ids)]) == ids and chosen[begin : len(ids)].any():
            at = begin + int(np.flatnonzero(chosen[begin : len(ids)])[0])
            return f"token {at} of a prompt of {len(ids)}: {audited.texts_of(row.ids[at : at + 8])!r}"
    return ""


def _answer_not_learned(audited: Audited, index: int, sample: Sample) -> str:
    """TOK042: what is learned holds every answer, but for border tokens that also hold text of the template."""
    runs = _runs(audited, index)
    for message in filter(_is_learned, sample.messages):
        if not _is_within(runs, _read_back(message, audited)):
            learned = "".join(run.text for run in runs)
            return f"{message.content[:60]!r} is not in {learned[:60]!r}"
    return ""


def is_learned_whole(audited: Audited, index: int, message: Message) -> bool:
    """Whether a row learns all of a message, but for border tokens that also hold text of the template."""
    return _is_within(_runs(audited, index), _read_back(message, audited))


class _Run(NamedTuple):
    """The text of a stretch of learned tokens, and of the tokens around it, without white space."""

    before: str
    text: str
    behind: str


def _runs(audited: Audited, index: int) -> list[_Run]:
    row = audited.train[index]
    return [_run(audited, row.ids, start, end) for start, end in runs_of(trained_positions(row))]


def _is_within(runs: list[_Run], text: str) -> bool:
    return text in "".join(run.text for run in runs) or any(_holds_all_but_borders(run, text) for run in runs)


def _run(audited: Audited, ids: np.ndarray, start: int, end: int) -> _Run:
    parts = (ids[max(0, start - 1) : start], ids[start:end], ids[end : end + 1])
    return _Run(*(_squeezed(audited.texts_of(part)) for part in parts))


def _holds_all_but_borders(run: _Run, text: str) -> bool:
    """Whether only such characters are missing as share their token with the template."""
    heads = [n for n in range(max(1, len(run.before))) if run.before.endswith(text[:n])]
    tails = [n for n in range(max(1, len(run.behind))) if run.behind.startswith(text[len(text) - n :])]
    return any(text[head : len(text) - tail] in run.text for head in heads for tail in tails if head + tail < len(text))


def _is_learned(message: Message) -> bool:
    return message.role == "assistant" and message.learn


def _read_back(message: Message, audited: Audited) -> str:
    """A message as this tokenizer spells it, without white space: some normalise or lower-case text."""
    tokenizer = audited.tokenizer
    if audited.is_lossless:
        return _squeezed(message.content)
    return _squeezed(tokenizer.decode(tokenizer.encode(message.content.strip()), skip_special=False))


def _squeezed(text: str) -> str:
    return "".join(text.split())
