"""The audit before the first step: which tokens carry loss, and whether training would teach what serving asks for."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from foretune.data.token_view import shown_sample
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError, Fault
from foretune.records.token_audit import ShownSample, SpecialToken, TokenAuditRecord, TokenFinding
from foretune.train.audited import Audited, trained_positions
from foretune.train.ending_checks import ENDING_CHECKS
from foretune.train.row_checks import LANGUAGE_KINDS, ROW_CHECKS
from foretune.train.row_facts import row_facts
from foretune.train.text_checks import MAX_READ_ROWS, TEXT_CHECKS, text_findings

__all__ = ["Audited", "check_tokens", "said_findings", "special_tokens", "template_sha256", "token_audit"]

SHOWN_SAMPLES = 3
SEVERITIES = ("stop", "warning", "mended")


def token_audit(audited: Audited) -> TokenAuditRecord:
    """Every check on every training row (those that read text: on 2,000 rows); raises nothing, see `check_tokens`."""
    findings = sorted(_findings(audited), key=lambda one: (SEVERITIES.index(one.severity), one.id))
    not_checked = _not_checked(audited)
    every = (*ROW_CHECKS, *ENDING_CHECKS, *TEXT_CHECKS)
    tokenizer = audited.tokenizer
    facts = row_facts(audited)
    return TokenAuditRecord(
        method=audited.method,
        kind=audited.kind,
        train_on=audited.train_on,
        tokenizer_sha256=tokenizer.fingerprint,
        template_sha256=template_sha256(tokenizer),
        has_chat_template=tokenizer.has_chat_template,
        special_tokens=special_tokens(tokenizer),
        pad_is_eos=tokenizer.pad_id == tokenizer.eos_id,
        num_rows=len(audited.train),
        num_validation_rows=len(audited.validation),
        num_dropped=audited.num_dropped,
        num_tokens=sum(len(row.ids) + (0 if row.source is None else len(row.source)) for row in audited.train),
        num_loss_tokens=sum(int(trained_positions(row).sum()) for row in audited.train),
        longest_row_tokens=max((len(row.ids) for row in audited.train), default=0),
        packing=_packing(audited),
        num_read_rows=0 if audited.aligned is None else min(len(audited.train), MAX_READ_ROWS),
        findings=tuple(findings),
        checked=tuple(number for number in every if number not in not_checked),
        not_checked=not_checked,
        samples=tuple(_samples(audited)),
        template=tokenizer.template.source,
        ended_fraction=facts.ended,
        truncated_fraction=facts.truncated,
        prompt_loss_fraction=facts.prompt_loss,
    )


def check_tokens(record: TokenAuditRecord) -> None:
    """Raise DataError with every finding that stops the run, row by row, before any step."""
    stops = record.stops
    if not stops:
        return
    faults = tuple(fault for finding in stops for fault in _faults(finding))
    first = stops[0]
    more = f" (and {len(stops) - 1} more kinds of fault)" if len(stops) > 1 else ""
    raise DataError(
        f"{first.id}: {first.title}: {first.reason}{more}; nothing was trained", fix=first.fix, faults=faults
    )


def said_findings(record: TokenAuditRecord) -> list[str]:
    """One line on each finding that does not stop the run; rows left out (TOK005) are told by the run itself."""
    told = [one for one in record.findings if one.severity != "stop" and one.id != "TOK005"]
    return [
        f"{one.id}: {one.title}; " + (f"mend: {one.fix}" if one.severity == "warning" else f"mended: {one.reason}")
        for one in told
    ]


def _faults(finding: TokenFinding) -> Iterator[Fault]:
    what = f"{finding.id} {finding.title}"
    for place in finding.places or ("the tokenizer",):
        file, _, line = place.rpartition(":")
        known = (file, int(line)) if file and line.isdigit() else (place, 0)
        yield Fault(*known, what, value="; ".join(finding.evidence[:1]), fix=finding.fix)


def _findings(audited: Audited) -> Iterator[TokenFinding]:
    for check in (*ROW_CHECKS.values(), *ENDING_CHECKS.values()):
        yield from check(audited)
    yield from text_findings(audited)


def _not_checked(audited: Audited) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if audited.aligned is None:
        why = "rows are not one to one with samples (packed, generated or mixed data)"
        reasons |= dict.fromkeys(TEXT_CHECKS, why)
    elif audited.kind != "causal":
        reasons |= dict.fromkeys(("TOK041", "TOK042"), f"a {audited.kind} model has no prompt in what it predicts")
    if audited.embedding_rows is None:
        reasons |= dict.fromkeys(("TOK003", "TOK027"), "the size of the embedding is not known")
    if audited.max_positions is None:
        reasons["TOK004"] = "the base names no limit of positions"
    if not audited.model_config.get("eos_token_id"):
        reasons["TOK024"] = "the base names no stop tokens of its own"
    return reasons


def _packing(audited: Audited) -> str:
    if audited.packs_documents:
        return "documents lie end to end in rows, and attention reaches from one into the next, as pretraining has it"
    return "every sample has its own positions and sees itself alone, however many share a batch"


def special_tokens(tokenizer: Tokenizer) -> tuple[SpecialToken, ...]:
    """The tokens with a role, as the tokenizer and the template have them."""
    roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "unk": tokenizer.unk_id}
    named = [(role, number) for role, number in roles.items() if number is not None]
    named += [("stop", number) for number in tokenizer.stop_ids]
    return tuple(SpecialToken(role=role, id=number, text=tokenizer.token_text(number)) for role, number in named)


def template_sha256(tokenizer: Tokenizer) -> str:
    """Hex digest of the chat template in use."""
    return hashlib.sha256(tokenizer.template.source.encode()).hexdigest()


def _samples(audited: Audited) -> Iterator[ShownSample]:
    """The first row, the one with the most tokens at a loss, and one from the middle."""
    if not audited.train:
        return
    counts = [int(trained_positions(row).sum()) for row in audited.train]
    wanted = [0, int(np.argmax(counts)), len(audited.train) // 2]
    for index in list(dict.fromkeys(wanted))[:SHOWN_SAMPLES]:
        row = audited.train[index]
        ids, trained = list(map(int, row.ids)), trained_positions(row).tolist()
        if row.source is not None:
            ids, trained = [*map(int, row.source), *ids], [False] * len(row.source) + trained
        if audited.kind not in LANGUAGE_KINDS:
            trained = [False] * len(ids)
        yield shown_sample(ids, trained, audited.tokenizer, place=audited.place(index))
