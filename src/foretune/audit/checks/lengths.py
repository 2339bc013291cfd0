"""Checks through the model's tokenizer: lengths, answers that would be cut off, masks, unknown tokens."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from foretune.audit.rows import row_finding
from foretune.audit.subject import Hit, Severity, Subject, finding
from foretune.data.samples import Sample
from foretune.data.tokenise import TokenisedData, TokenisedSample, shown_mask, tokenise_all
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
    data: dict[str, TokenisedData] = {}
    try:
        for name, samples in subject.splits.items():
            data[name] = tokenise_all(samples, tokenizer)
    except DataError as error:
        return TokenReport({}, _unprovable(error), ())
    tokens = _numbered(subject, data)
    findings = [
        *_cut_answers(subject, tokens),
        *_no_turn_end(subject, tokenizer),
        *_unknown_tokens(subject, tokens, tokenizer),
    ]
    stats = {name: _stats(one.samples, subject.max_seq_len) for name, one in data.items() if one.samples}
    return TokenReport(stats, findings, _examples(subject.splits.get("train", ()), tokenizer))


def _numbered(subject: Subject, data: dict[str, TokenisedData]) -> list[tuple[int, TokenisedSample]]:
    """All tokenised samples with the number of their row in the audit."""
    numbered: list[tuple[int, TokenisedSample]] = []
    first = 0
    for name, one in data.items():
        numbered += [(first + index, row) for index, row in zip(one.indices, one.samples, strict=True)]
        first += len(subject.splits[name])
    return numbered


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


def _cut_answers(subject: Subject, tokens: list[tuple[int, TokenisedSample]]) -> list[Finding]:
    """DATA030: rows whose answer reaches beyond the longest sequence; training leaves them out."""
    if subject.max_seq_len <= 0 or subject.task == "text":
        return []
    rows = {n: f"{len(row.ids)} tokens" for n, row in tokens if any(row.loss_mask[subject.max_seq_len :])}
    severity: Severity = "error" if rows and len(rows) == len(subject.samples) else "warning"
    title = f"answers would be cut off at {subject.max_seq_len} tokens and are left out"
    fix = "raise train.max_seq_len if the model allows it, or shorten the inputs"
    return row_finding(subject, 30, severity, title, rows, fix=fix)


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


def _unknown_tokens(subject: Subject, tokens: list[tuple[int, TokenisedSample]], tokenizer: Tokenizer) -> list[Finding]:
    """DATA033: text that the vocabulary cannot spell becomes the unknown token, and is lost."""
    unknown = tokenizer.unk_id
    if unknown is None or unknown in (tokenizer.eos_id, tokenizer.bos_id):
        return []
    counts = [(number, row.ids.count(unknown), len(row.ids)) for number, row in tokens]
    total, num_unknown = sum(length for _, _, length in counts), sum(count for _, count, _ in counts)
    if not total or num_unknown < UNKNOWN_FRACTION * total:
        return []
    title = f"{num_unknown / total:.1%} of the tokens are unknown to the tokenizer"
    rows = {number: f"{count} of {length} tokens are unknown" for number, count, length in counts if count}
    fix = "use a base model whose tokenizer knows these characters"
    return row_finding(subject, 33, "warning", title, rows, fix=fix)


def _examples(samples: Sequence[Sample], tokenizer: Tokenizer) -> tuple[str, ...]:
    rows = tokenise_all(list(samples[:NUM_EXAMPLES]), tokenizer).samples
    return tuple(shown_mask(row, tokenizer)[:EXAMPLE_CHARS] for row in rows)
