"""Checks of every training row as numbers: loss somewhere, one begin token, ids and lengths that the model has."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from foretune.records.token_audit import TokenFinding
from foretune.train.audited import Audited, SupervisedRow, finding, trained_positions

__all__ = ["LANGUAGE_KINDS", "ROW_CHECKS", "runs_of", "stop_is_trained"]

LANGUAGE_KINDS = ("causal", "seq2seq")
MANY_UNKNOWN = 0.01  # share of unknown tokens from which a tokenizer does not know the language of the data


def _no_loss(audited: Audited) -> Iterator[TokenFinding]:
    """TOK001."""
    bad = [i for i, row in enumerate(audited.train) if not row.weight > 0]
    if bad:
        yield finding(
            "TOK001",
            "stop",
            "rows without a token that carries loss",
            "they teach nothing; where all rows are like this the loss is 0 and the model stays as it was",
            audited=audited,
            rows=bad,
            evidence=[f"{audited.texts_of(audited.train[bad[0]].ids[:40])!r}"],
            fix="give these rows an answer, or take them out",
        )


def _double_begin(audited: Audited) -> Iterator[TokenFinding]:
    """TOK002."""
    begin = audited.tokenizer.bos_id
    if begin is None or audited.kind not in LANGUAGE_KINDS:
        return
    bad = [i for i, row in enumerate(audited.train) if len(row.ids) > 1 and row.ids[0] == begin == row.ids[1]]
    if bad:
        yield finding(
            "TOK002",
            "stop",
            "two begin tokens in a row",
            "the model has never seen that, and serving sends one: answers get worse",
            audited=audited,
            rows=bad,
            evidence=[f"{audited.texts_of(audited.train[bad[0]].ids[:6])!r}"],
            fix="take the begin token out of the texts: the template adds it",
        )


def _outside_vocabulary(audited: Audited) -> Iterator[TokenFinding]:
    """TOK003."""
    limit = audited.embedding_rows
    if limit is None:
        return
    bad = [i for i, row in enumerate(audited.train) if _largest(row) >= limit]
    if bad:
        largest = max(_largest(audited.train[i]) for i in bad)
        yield finding(
            "TOK003",
            "stop",
            f"token {largest} is not among the {limit} rows of the model's embedding",
            "tokenizer and model do not belong together",
            audited=audited,
            rows=bad,
            fix="use the tokenizer of the same checkpoint",
        )


def _largest(row: SupervisedRow) -> int:
    parts = [part for part in (row.ids, row.source) if part is not None and len(part)]
    return max((int(part.max()) for part in parts), default=0)


def _beyond_positions(audited: Audited) -> Iterator[TokenFinding]:
    """TOK004."""
    if audited.max_positions is None:
        return
    room = audited.max_positions - audited.num_virtual_tokens
    bad = [i for i, row in enumerate(audited.train) if len(row.ids) > room]
    if bad:
        longest = max(len(audited.train[i].ids) for i in bad)
        yield finding(
            "TOK004",
            "stop",
            f"rows of up to {longest} tokens, the model has {room} positions",
            "positions that the model was never trained on give noise, or an index error in the middle of the run",
            audited=audited,
            rows=bad,
            fix=f"train.max_seq_len = {room}",
        )


def _left_out(audited: Audited) -> Iterator[TokenFinding]:
    """TOK005."""
    if not audited.num_dropped:
        return
    total = audited.num_dropped + len(audited.train)
    share = audited.num_dropped / total
    yield TokenFinding(
        id="TOK005",
        severity="warning" if share > 0.05 else "mended",
        title=f"{audited.num_dropped:,} of {total:,} rows are longer than {audited.max_seq_len:,} tokens",
        reason="cut rows would teach answers without an end, so they were left out whole",
        num_rows=audited.num_dropped,
        places=tuple(audited.dropped[:20]),
        fix="raise train.max_seq_len, or shorten the samples",
    )


def _seen_in_validation(audited: Audited) -> Iterator[TokenFinding]:
    """TOK006."""
    held = {_content(row) for row in audited.validation}
    bad = [i for i, row in enumerate(audited.train) if _content(row) in held] if held else []
    if bad:
        yield finding(
            "TOK006",
            "warning",
            "training rows that are also in validation, token for token",
            "the validation loss, and with it early stopping, is too optimistic",
            audited=audited,
            rows=bad,
            fix="foretune audit JOB   # finds the duplicates across splits",
        )


def _content(row: SupervisedRow) -> tuple[bytes, bytes]:
    source = b"" if row.source is None else np.asarray(row.source, dtype=np.int64).tobytes()
    return np.asarray(row.ids, dtype=np.int64).tobytes(), source


def _unknown_tokens(audited: Audited) -> Iterator[TokenFinding]:
    """TOK007."""
    unknown = audited.tokenizer.unk_id
    if unknown is None or unknown in audited.tokenizer.stop_ids:
        return
    counts = [int((row.ids == unknown).sum()) for row in audited.train]
    total = sum(len(row.ids) for row in audited.train)
    bad = [i for i, count in enumerate(counts) if count]
    if sum(counts) > MANY_UNKNOWN * total:
        yield finding(
            "TOK007",
            "warning",
            f"{sum(counts) / total:.1%} of the tokens are `{audited.tokenizer.token_text(unknown)}`",
            "the tokenizer cannot spell this text: the model neither reads nor writes it",
            audited=audited,
            rows=bad,
            fix="choose a base whose tokenizer knows this language",
        )


def _untrained_tokens(audited: Audited) -> Iterator[TokenFinding]:
    """TOK008."""
    known = np.fromiter(audited.untrained_ids, dtype=np.int64, count=len(audited.untrained_ids))
    if not len(known):
        return
    hits = [np.intersect1d(row.ids, known) for row in audited.train]
    bad = [i for i, hit in enumerate(hits) if len(hit)]
    if bad:
        used = sorted({int(one) for i in bad for one in hits[i]})
        names = ", ".join(f"`{audited.tokenizer.token_text(one)}`" for one in used[:5])
        yield finding(
            "TOK008",
            "warning",
            f"{names}: tokens whose embedding the base was never trained on, and which stays frozen",
            "the model cannot tell them from noise, and will not learn to write them",
            audited=audited,
            rows=bad,
            fix='use the instruction-tuned checkpoint of this base, or train.method = "full"',
        )


ROW_CHECKS: dict[str, Callable[[Audited], Iterator[TokenFinding]]] = {
    "TOK001": _no_loss,
    "TOK002": _double_begin,
    "TOK003": _outside_vocabulary,
    "TOK004": _beyond_positions,
    "TOK005": _left_out,
    "TOK006": _seen_in_validation,
    "TOK007": _unknown_tokens,
    "TOK008": _untrained_tokens,
}


def runs_of(chosen: np.ndarray) -> list[tuple[int, int]]:
    """The stretches [start, end) of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def stop_is_trained(row: SupervisedRow, stop_ids: Sequence[int], *, at_each_end: bool = False) -> bool:
    """Whether a token that ends an answer carries loss in the last stretch of learned tokens, or in each of them."""
    runs = runs_of(trained_positions(row))
    stops = list(stop_ids)
    return bool(runs) and all(bool(np.isin(row.ids[a:b], stops).any()) for a, b in (runs if at_each_end else runs[-1:]))
