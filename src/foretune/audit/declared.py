"""The checks that a job declares: languages of production, outdated terms, and a sample of what production asks."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from foretune.audit.audit import Check
from foretune.audit.checks.language import declared_languages
from foretune.audit.checks.terms import outdated_terms, read_terms
from foretune.audit.coverage.coverage import FEW_PRODUCTION, coverage
from foretune.audit.coverage.gaps import MIN_ROWS
from foretune.audit.coverage.record import CoverageRecord
from foretune.audit.coverage.tasks import coverage_findings
from foretune.audit.subject import Subject
from foretune.config.job import DataConfig
from foretune.data.samples import Sample
from foretune.records.audit import Finding
from foretune.stats.divergence import LARGE_PSI, jensen_shannon, population_stability

__all__ = ["Divergence", "declared_checks", "divergence_of", "production_check"]

TEST_DIFFERS = "DATA115"
SURE = 0.01  # p-value of the two-sample test below which chance does not explain a difference


def declared_checks(
    data: DataConfig, folder: Path, *, production: Sequence[Sample] = (), run_dir: Path | None = None
) -> list[Check]:
    """The checks that the data section of a job asks for; its paths are relative to `folder`.

    `production` are the queries of `data.production_path`, already read. Raises NotFound and ConfigError for the list
    of terms.
    """
    checks: list[Check] = []
    if data.languages:
        shares = data.language_shares
        checks.append(lambda subject: declared_languages(subject, shares))
    if data.advanced.outdated_terms:
        terms = read_terms(folder / data.advanced.outdated_terms)
        checks.append(lambda subject: outdated_terms(subject, terms))
    if production:
        checks.append(lambda subject: production_check(subject, production, run_dir=run_dir))
    return checks


def production_check(subject: Subject, production: Sequence[Sample], *, run_dir: Path | None = None) -> list[Finding]:
    """DATA110 to DATA115: what production asks and training lacks, and whether the test split is like production.

    Leaves `coverage.json` in `run_dir` if one is given.
    """
    train = [sample for sample in subject.splits.get("train", ()) if sample.input_text.strip()]
    test = [sample for sample in subject.splits.get("test", ()) if sample.input_text.strip()]
    findings: list[Finding] = []
    if train:
        record = coverage(train, production)
        findings += coverage_findings(record)
        if run_dir is not None:
            record.write(run_dir)
    if min(len(test), len(production)) >= MIN_ROWS:
        findings.append(_test_finding(coverage(test, production)))
    else:
        findings.append(_too_few(len(test), len(production)))
    return findings


class Divergence(NamedTuple):
    """How far the topics of one side lie from production's: Jensen-Shannon in bits (0 to 1), and PSI."""

    jensen_shannon: float
    psi: float


def divergence_of(record: CoverageRecord) -> Divergence:
    """How far the shares of the topics of `record` (its clusters) differ from those of production."""
    topics = [topic for topic in record.topics if topic.kind == "cluster"]
    ours, theirs = ([getattr(topic, name) for topic in topics] for name in ("num_train", "num_production"))
    return Divergence(jensen_shannon(ours, theirs), population_stability(ours, theirs))


def _too_few(num_test: int, num_production: int) -> Finding:
    title = f"{num_test} test rows and {num_production} production queries are too few to compare with each other"
    fix = f"give {FEW_PRODUCTION} production queries, better 1,000, and {MIN_ROWS} test rows or more"
    return Finding(id=TEST_DIFFERS, severity="info", title=title, count=num_production, fix=fix)


def _test_finding(record: CoverageRecord) -> Finding:
    apart = divergence_of(record)
    is_far = apart.psi > LARGE_PSI and min(record.shift_p_value, record.drift_p_value) < SURE
    lacking = ", ".join(repr(topic.name) for topic in record.gaps[:3])
    figures = f"JS {apart.jensen_shannon:.3f}, PSI {apart.psi:.2f}"
    title = f"the test split is {'not ' if is_far else ''}distributed like production ({figures})"
    return Finding(
        id=TEST_DIFFERS,
        severity="warning" if is_far else "info",
        title=f"{title}: it lacks {lacking}" if is_far and lacking else title,
        count=record.num_train,
        fix="draw the test split from production: its score says little about production else" if is_far else "",
        effect=min(1.0, apart.jensen_shannon) if is_far else 0.0,
    )
