"""A verdict on 80 columns: gaps, what stands beside it, what is still missing; and the votes of people."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from rich.console import Console

from foretune.cli.rate import _shown as ratings_shown
from foretune.cli.show import diagnosis_shown, evaluation_shown
from foretune.records.evaluation import (
    Delta,
    EvaluationRecord,
    JudgeResult,
    QuantisedGate,
    SideClaim,
    SystemGap,
)
from foretune.records.ratings import RatingsRecord
from stand_ins import OVERFITTING, diagnosis_record, evaluation_record

DELTA = Delta(value=0.2, ci_low=0.1, ci_high=0.3, p_value=0.001, method="paired_t")


def printed(items: list[object]) -> str:
    """What stands on a terminal of 80 columns."""
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False)
    for item in items:
        console.print(item)
    return out.getvalue()


def record() -> EvaluationRecord:
    """Three systems of the run, an endpoint that stopped half-way, one that is down, a judge without a word."""
    usual = evaluation_record()
    metric = {"exact_match": usual.systems[0].metrics["exact_match"].model_copy(update={"n": 12})}
    half = usual.systems[0].model_copy(update={"name": "endpoint:half", "num_missing": 88, "metrics": metric})
    packed = usual.systems[2].model_copy(update={"name": "fine_tuned_4bit"})
    return evaluation_record(
        systems=(*usual.systems, packed, half),
        gaps=(SystemGap(system="endpoint:down", reason="no answer"),),
        claims=(
            SideClaim(
                system="endpoint:half",
                metric="exact_match",
                n=12,
                delta=DELTA,
                p_adjusted=0.002,
                verdict="inconclusive",
            ),
        ),
        gates=(
            QuantisedGate(
                system="fine_tuned_4bit",
                whole=0.8,
                quantised=0.7,
                loss_fraction=0.125,
                allowed_fraction=0.1,
                status="breached",
                reason="4bit: 0.7 instead of 0.8",
            ),
        ),
        judge=JudgeResult(
            model="mute",
            n=0,
            wins=0,
            losses=0,
            ties=0,
            num_missing=9,
            inconsistent=0,
            position_share=None,
            preference=0.0,
            ci_low=-1.0,
            ci_high=1.0,
            gap="9 pairs are missing: it is down",
        ),
    )


def test_a_gap_is_shown_and_never_a_score() -> None:
    told = printed(list(evaluation_shown(record())))
    (down,) = [line for line in told.splitlines() if line.startswith("endpoint:down")]
    assert down.split() == ["endpoint:down", "no", "answer"]
    assert "endpoint:half (12 of 100)" in told
    assert "missing answers alone are asked for again by: foretune evaluate job-001" in told
    assert "judge mute (never decides): no pair judged" in told and "0 for" not in told


def test_a_whole_evaluation_asks_for_nothing() -> None:
    told = printed(list(evaluation_shown(evaluation_record())))
    assert "asked for again" not in told and "baseline: base, prompted: plain" in told


def test_gates_and_claims_stand_beside_the_verdict_wherever_it_is_shown() -> None:
    told = printed(list(evaluation_shown(record())))
    assert "gate breached: 4bit: 0.7 instead of 0.8" in told and "fine-tuned, 4 bit" in told
    assert "+0.100 to +0.300" in told and "inconclusive" in told
    assert max(map(len, told.splitlines())) <= 80


def test_long_evidence_goes_on_below_its_own_beginning() -> None:
    cause = OVERFITTING.model_copy(update={"evidence": ("eval loss rose " + "more and " * 20,)})
    lines = printed(list(diagnosis_shown(diagnosis_record("job-001", cause)))).splitlines()
    (first,) = [number for number, line in enumerate(lines) if "evidence" in line]
    assert lines[first + 1].startswith(" " * lines[first].index("eval"))


@pytest.mark.parametrize(("num_rated", "is_said"), [(40, False), (80, True)])
def test_pairs_that_the_run_does_not_have_are_not_asked_for(num_rated: int, is_said: bool) -> None:
    votes = RatingsRecord(
        run_id="job-001",
        candidate="fine_tuned",
        baseline="base_few_shot",
        num_pairs=80,
        num_identical=0,
        num_rated=num_rated,
        num_votes=num_rated,
        raters=("anna",),
        wins=20,
        losses=20,
        ties=0,
        preference=0.0,
        ci_low=-0.2,
        ci_high=0.2,
        p_value=1.0,
        verdict="inconclusive",
        votes_needed=35,
    )
    told = " ".join(printed(list(ratings_shown(votes))).split())
    assert "about 35 more pairs for a verdict" in told
    assert ("it takes a larger test split" in told) is is_said
