"""Audit a data set version: run every check and leave `audit.json`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foretune.audit.checks import (
    consistency,
    conversation,
    duplicates,
    groups,
    labels,
    language,
    leakage,
    pii,
    quality,
    references,
    sizes,
    structure,
    text,
)
from foretune.audit.checks.lengths import TokenReport, token_report
from foretune.audit.subject import Subject
from foretune.data.samples import Sample
from foretune.data.tokenizer import Tokenizer
from foretune.records.audit import AuditRecord, Finding
from foretune.records.dataset import DatasetRecord

__all__ = ["CHECKS", "Check", "audit"]

Check = Callable[[Subject], list[Finding]]
CHECKS: tuple[Check, ...] = (
    conversation.role_order,
    conversation.empty_inputs,
    conversation.empty_answers,
    conversation.short_answers,
    conversation.cut_off_answers,
    duplicates.exact_duplicates,
    duplicates.near_duplicate_rows,
    duplicates.contradictions,
    duplicates.explained_differences,
    leakage.exact_leaks,
    leakage.near_leaks,
    leakage.group_leaks,
    sizes.num_rows,
    sizes.small_test,
    sizes.class_balance,
    structure.broken_json,
    structure.key_styles,
    structure.json_shapes,
    consistency.date_forms,
    consistency.number_forms,
    consistency.unit_forms,
    consistency.outer_blanks,
    consistency.answer_ends,
    consistency.label_spellings,
    text.damaged_encoding,
    text.html_remains,
    text.control_tokens,
    text.hidden_characters,
    language.language_mix,
    groups.group_shares,
    groups.harsh_words,
    labels.label_noise_rows,
    references.wrong_references,
    quality.quality_rules,
    pii.personal_data,
)
SEVERITIES = ("error", "warning", "info")


def audit(
    dataset: DatasetRecord,
    splits: Mapping[str, Sequence[Sample]],
    tokenizer: Tokenizer | None,
    *,
    max_seq_len: int = 0,
    more: Sequence[Check] = (),
    run_dir: Path | None = None,
) -> AuditRecord:
    """Run every check on the splits of a data set version; errors come first, then what spoils most rows.

    `more` are checks beside the usual ones, such as those that a job declares. Without a tokenizer there are no token
    statistics. `max_seq_len` is in tokens, 0 = no limit. Writes `audit.json` into `run_dir` if one is given. Finding
    errors is not an error of this function: the journey's gate decides.
    """
    subject = Subject(splits, task=dataset.task, tokenizer=tokenizer, max_seq_len=max_seq_len)
    report = token_report(subject, tokenizer) if tokenizer is not None else TokenReport({}, [], ())
    findings = [*report.findings, *(finding for check in (*CHECKS, *more) for finding in check(subject))]
    record = AuditRecord(
        dataset_version=dataset.version,
        num_samples=len(subject.samples),
        findings=tuple(sorted(findings, key=_rank)),
        tokens=report.stats,
        examples=report.examples,
    )
    if run_dir is not None:
        record.write(run_dir)
    return record


def _rank(finding: Finding) -> tuple[int, float, str]:
    return SEVERITIES.index(finding.severity), -finding.effect, finding.id
