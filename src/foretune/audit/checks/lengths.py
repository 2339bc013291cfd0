"""Checks through the model's tokenizer: lengths, answers that would be cut off, masks, unknown tokens."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.data.samples import Sample
from foretune.data.tokenise import TokenisedSample, shown_mask, tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError
from foretune.records.audit import Finding, TokenStats

__all__ = ["TokenReport", "token_report"]

NUM_BINS = 20
NUM_EXAMPLES = 3
EXAMPLE_CHARS = 4_000
UNKNOWN_FRACTION = 0.01


class TokenReport(NamedTuple):
    """Token statistics by split, what is wrong with them, and a few samples as the model sees them."""

    stats: dict[str, TokenStats]
    findings: list[Finding]
    examples: tuple[str, ...]


def token_report(subject: Subject, tokenizer: Tokenizer) -> TokenReport:
    """DATA030 to DATA033, the token statistics (R126) and the masks of the first rows.

    Where a mask cannot be proved, that is an error (DATA031) and there are no statistics.
    """
    tokens: dict[str, list[TokenisedSample]] = {}
    try:
        for name, samples in subject.splits.items():
            tokens[name] = tokenise_all(samples, tokenizer).samples
    except DataError as error:
        return TokenReport({}, _unprovable(error), ())
    findings = [
        *_cut_answers(subject, tokens),
        *_no_turn_end(subject, tokenizer),
        *_unknown_tokens(tokens, tokenizer),
    ]
    stats = {name: _stats(rows, subject.max_seq_len) for name, rows in tokens.items() if rows}
    return TokenReport(stats, findings, _examples(subject.splits.get("train", ()), tokenizer))


def _stats(rows: Sequence[TokenisedSample], max_seq_len: int) -> TokenStats:
    lengths = np.array([len(row.ids) for row in rows])
    answers = np.array([row.num_loss_tokens for row in rows])
    bins, _ = np.histogram(lengths, bins=NUM_BINS, range=(0, max(int(lengths.max()), 1)))
    return TokenStats(
        mean=round(float(lengths.mean()), 2),
        p50=float(np.percentile(lengths, 50)),
        p95=float(np.percentile(lengths, 95)),
        max=int(lengths.max()),
        answer_mean=round(float(answers.mean()), 2),
        answer_max=int(answers.max()),
        truncated_fraction=float((lengths > max_seq_len).mean()) if max_seq_len else 0.0,
        histogram=tuple(int(count) for count in bins),
    )


def _cut_answers(subject: Subject, tokens: dict[str, list[TokenisedSample]]) -> list[Finding]:
    """DATA030: rows whose answer reaches beyond the longest sequence; training leaves them out."""
    if subject.max_seq_len <= 0 or subject.task == "text":
        return []
    hits = [
        Hit(row.place, f"{len(row.ids)} tokens")
        for rows in tokens.values()
        for row in rows
        if any(row.loss_mask[subject.max_seq_len :])
    ]
    severity: Severity = "error" if hits and len(hits) == len(subject.samples) else "warning"
    title = f"answers would be cut off at {subject.max_seq_len} tokens and are left out"
    fix = "raise train.max_seq_len if the model allows it, or shorten the inputs"
    return finding(30, severity, title, hits, fix=fix)


def _unprovable(error: DataError) -> list[Finding]:
    hits = [Hit(f"{fault.file}:{fault.line}" if fault.line else fault.file, fault.what) for fault in error.faults]
    return finding(31, "error", "it cannot be told which tokens are the answer", hits, fix=error.fix)


def _no_turn_end(subject: Subject, tokenizer: Tokenizer) -> list[Finding]:
    """DATA032: the chat template ends answers with no token that this tokenizer knows."""
    if tokenizer.turn_end is not None or subject.task == "text":
        return []
    end = "the end-of-text token is learned after the last answer instead"
    if tokenizer.eos_id is None:
        title = "neither chat template nor tokenizer has a token that ends an answer: the model will not learn to stop"
        return finding(32, "warning", title, [Hit(tokenizer.name)], fix="set eos_token in tokenizer_config.json")
    title = f"the chat template ends answers with no token of this tokenizer; {end}"
    evidence = f"the template puts {tokenizer.turn_suffix!r} after an answer"
    return finding(32, "info", title, [Hit(tokenizer.name, evidence)], fix="nothing, unless you serve elsewhere")


def _unknown_tokens(tokens: dict[str, list[TokenisedSample]], tokenizer: Tokenizer) -> list[Finding]:
    """DATA033: text that the vocabulary cannot spell becomes the unknown token, and is lost."""
    unknown = tokenizer.unk_id
    if unknown is None or unknown in (tokenizer.eos_id, tokenizer.bos_id):
        return []
    rows = [row for listed in tokens.values() for row in listed]
    counts = [row.ids.count(unknown) for row in rows]
    total = sum(len(row.ids) for row in rows)
    if not total or sum(counts) < UNKNOWN_FRACTION * total:
        return []
    title = f"{sum(counts) / total:.1%} of the tokens are unknown to the tokenizer"
    pairs = zip(rows, counts, strict=True)
    hits = [Hit(row.place, f"{count} of {len(row.ids)} tokens are unknown") for row, count in pairs if count]
    return finding(33, "warning", title, hits, fix="use a base model whose tokenizer knows these characters")


def _examples(samples: Sequence[Sample], tokenizer: Tokenizer) -> tuple[str, ...]:
    rows = tokenise_all(list(samples[:NUM_EXAMPLES]), tokenizer).samples
    return tuple(shown_mask(row, tokenizer)[:EXAMPLE_CHARS] for row in rows)
