"""Checks of how answers begin and end: stop tokens that are learned and known to servers, padding, the begin token."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from foretune.records.token_audit import TokenFinding
from foretune.train.audited import Audited, finding
from foretune.train.row_checks import LANGUAGE_KINDS, stop_is_trained

__all__ = ["ENDING_CHECKS"]

SPARE_ROWS = 2048  # embeddings are rounded up; more unused rows than this are no rounding


def _no_stop(audited: Audited) -> Iterator[TokenFinding]:
    """TOK020."""
    if audited.kind in LANGUAGE_KINDS and audited.method != "pretrain" and not audited.tokenizer.stop_ids:
        yield TokenFinding(
            id="TOK020",
            severity="stop",
            title="no token of this base ends an answer",
            reason="neither tokenizer nor template names one: the tuned model would never stop",
            fix='name one in tokenizer_config.json: "eos_token": "</s>", or choose another base',
        )


def _end_not_learned(audited: Audited) -> Iterator[TokenFinding]:
    """TOK021: the token that ends an answer must carry loss, in each answer where the template marks their ends."""
    stops = audited.tokenizer.stop_ids
    if audited.kind not in LANGUAGE_KINDS or audited.method == "pretrain" or not stops:
        return
    each = audited.tokenizer.turn_end is not None and audited.train_on == "assistant"
    bad = [i for i, row in enumerate(audited.train) if not stop_is_trained(row, stops, at_each_end=each)]
    if audited.aligned is not None:
        bad = [i for i in bad if _ends_with_answer(audited, i)]
    elif len(bad) < len(audited.train):  # raw text in pieces: only the last piece of each has an end
        return
    if bad:
        names = ", ".join(f"`{audited.tokenizer.token_text(one)}`" for one in stops)
        yield finding(
            "TOK021",
            "stop",
            f"answers whose end ({names}) carries no loss",
            "the model would not learn to stop",
            audited=audited,
            rows=bad,
            evidence=[f"…{audited.texts_of(audited.train[bad[0]].ids[-12:])!r}"],
            fix="end answers with the template's own end token; padding must be masked by length, never by id",
        )


def _ends_with_answer(audited: Audited, index: int) -> bool:
    assert audited.aligned is not None
    sample = audited.aligned[index]
    if sample.is_text or not sample.messages:
        return False
    last = sample.messages[-1]
    return last.role == "assistant" and last.learn


def _pad_is_end(audited: Audited) -> Iterator[TokenFinding]:
    """TOK022."""
    tokenizer = audited.tokenizer
    if audited.kind not in LANGUAGE_KINDS or tokenizer.eos_id is None or tokenizer.pad_id != tokenizer.eos_id:
        return
    learned = sum(stop_is_trained(row, [tokenizer.eos_id]) for row in audited.train)
    yield TokenFinding(
        id="TOK022",
        severity="mended",
        title=f"padding and end of text are one token, `{tokenizer.token_text(tokenizer.eos_id)}`",
        reason=f"masks come from lengths, not ids: the end is learned in {learned:,} of {len(audited.train):,} rows",
        num_rows=len(audited.train),
    )


def _template_without_end(audited: Audited) -> Iterator[TokenFinding]:
    """TOK023."""
    tokenizer = audited.tokenizer
    if audited.kind != "causal" or audited.method == "pretrain" or tokenizer.turn_end is not None:
        return
    if tokenizer.eos_id is not None:
        yield TokenFinding(
            id="TOK023",
            severity="mended",
            title="the chat template marks no end of an answer",
            reason=f"`{tokenizer.token_text(tokenizer.eos_id)}` was put behind the last answer of every row, with loss",
        )


def _unknown_to_servers(audited: Audited) -> Iterator[TokenFinding]:
    """TOK024."""
    listed = _listed(audited.model_config.get("eos_token_id"))
    if audited.kind != "causal" or audited.method == "pretrain" or not listed:
        return
    end = audited.tokenizer.turn_end
    number = audited.tokenizer.eos_id if end is None else end[1]
    if number is not None and number not in listed:
        text = audited.tokenizer.token_text(number)
        yield TokenFinding(
            id="TOK024",
            severity="warning",
            title=f"answers end with `{text}`, which the base's own stop list {sorted(listed)} lacks",
            reason="foretune stops there; servers that read generation_config.json alone would go on",
            fix=f'generation_config.json of the served model: "eos_token_id": {sorted({*listed, number})}',
        )


def _listed(value: Any) -> set[int]:
    values = value if isinstance(value, list) else [value]
    return {one for one in values if isinstance(one, int)}


def _no_begin(audited: Audited) -> Iterator[TokenFinding]:
    """TOK025."""
    tokenizer = audited.tokenizer
    begin = tokenizer.bos_id
    if audited.kind != "causal" or begin is None or tokenizer.encode("a", add_special=True)[:1] != [begin]:
        return
    bad = [i for i, row in enumerate(audited.train) if len(row.ids) and row.ids[0] != begin]
    if bad and not audited.packs_documents:
        yield finding(
            "TOK025",
            "warning",
            f"rows without the begin token `{tokenizer.token_text(begin)}` that this base was trained with",
            "the first tokens of a text mean less to the model; servers that add it feed something else than training",
            audited=audited,
            rows=bad,
            fix="let the chat template begin with {{ bos_token }}",
        )


def _other_special_ids(audited: Audited) -> Iterator[TokenFinding]:
    """TOK026."""
    for name, own in (("bos", audited.tokenizer.bos_id), ("eos", audited.tokenizer.eos_id)):
        listed = _listed(audited.model_config.get(f"{name}_token_id"))
        if own is None or not listed or own in listed:
            continue
        yield TokenFinding(
            id="TOK026",
            severity="warning",
            title=f"{name} is {own} for the tokenizer, {sorted(listed)} for the model",
            reason="the tokenizer may belong to another model",
            fix="use the tokenizer files of the same checkpoint",
        )


def _strange_tokenizer(audited: Audited) -> Iterator[TokenFinding]:
    """TOK027."""
    rows = audited.embedding_rows
    if rows is None:
        return
    spare = rows - audited.tokenizer.vocab_size
    if spare > max(SPARE_ROWS, rows // 20):
        yield TokenFinding(
            id="TOK027",
            severity="warning",
            title=f"the tokenizer has {audited.tokenizer.vocab_size:,} tokens, the model's embedding {rows:,} rows",
            reason="so many unused rows are no rounding: the tokenizer may belong to another model",
            fix="use the tokenizer files of the same checkpoint",
        )


ENDING_CHECKS: dict[str, Callable[[Audited], Iterator[TokenFinding]]] = {
    "TOK020": _no_stop,
    "TOK021": _end_not_learned,
    "TOK022": _pad_is_end,
    "TOK023": _template_without_end,
    "TOK024": _unknown_to_servers,
    "TOK025": _no_begin,
    "TOK026": _other_special_ids,
    "TOK027": _strange_tokenizer,
}
