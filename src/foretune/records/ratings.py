"""`ratings.jsonl` and `ratings.json`: what people said of two answers whose makers they did not know."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from foretune.errors import DataError
from foretune.records.base import Record, write_error
from foretune.records.evaluation import MetricValue, Verdict

__all__ = ["RATINGS_FILE", "CriterionMarks", "Rating", "RatingsRecord", "Side", "add_ratings", "read_ratings"]

RATINGS_FILE = "ratings.jsonl"
Side = Literal["candidate", "baseline"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rating(_Part):
    """One rater on one pair of answers; `marks` are 1 to 5 by criterion, for both answers or none."""

    sample_id: str
    rater: str
    shown_first: Side
    winner: Literal["candidate", "baseline", "tie"]
    candidate_marks: dict[str, int] = {}
    baseline_marks: dict[str, int] = {}
    comment: str = ""
    rated_at: str = ""


class CriterionMarks(_Part):
    """Mean marks on one criterion, 1 to 5, with their standard deviations; over `n` ratings."""

    name: str
    candidate: float
    baseline: float
    candidate_deviation: float
    baseline_deviation: float
    n: int


class RatingsRecord(Record):
    """What all votes say together. `preference` is (wins - losses) per pair, -1 to 1, raters of a pair averaged.

    `votes_needed`: pairs still to be rated for a verdict, if the preference stays as it is; None where no number would
    do. `agreement`: Krippendorff's alpha over pairs that several raters saw. `position_share`: how often the answer
    shown first won, of the decided votes.
    """

    file_name: ClassVar[str] = "ratings.json"
    run_id: str
    candidate: str
    baseline: str
    num_pairs: int  # pairs of different answers
    num_identical: int  # pairs of equal answers, which nobody is asked about
    num_rated: int
    num_votes: int
    raters: tuple[str, ...]
    wins: int
    losses: int
    ties: int
    preference: float
    ci_low: float
    ci_high: float
    p_value: float
    verdict: Verdict
    votes_needed: int | None
    agreement: float | None = None
    agreement_said: str = ""
    position_share: float | None = None
    criteria: tuple[CriterionMarks, ...] = ()
    judge_agreement: float | None = None  # Cohen's kappa of the judge and the votes
    judge_corrected: MetricValue | None = None  # preference by judge and votes together (PPI++)
    notes: tuple[str, ...] = ()


def read_ratings(run_dir: Path) -> list[Rating]:
    """Every vote, a rater's later one on the same pair in place of the earlier; a torn last line is left out.

    Raises DataError for a damaged line.
    """
    path = run_dir / RATINGS_FILE
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    found: dict[tuple[str, str], Rating] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rating = Rating.model_validate_json(line)
        except ValidationError as error:
            if number == len(lines):
                continue
            said = error.errors()[0]["msg"]
            raise DataError(f"{path}:{number}: not a rating ({said})", fix="take the line out") from None
        found[(rating.sample_id, rating.rater)] = rating
    return list(found.values())


def add_ratings(run_dir: Path, *ratings: Rating) -> None:
    """Append votes and sync them, so that none is lost. Raises DoesNotFit on a full disk or a read-only folder."""
    path = run_dir / RATINGS_FILE
    try:
        with open(path, "a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write("".join(rating.model_dump_json() + "\n" for rating in ratings).encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error
