"""Probes of a healthy run, and the same with one fault in them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from foretune.evaluate.probes.fits import fit_of
from foretune.records.evidence import (
    EndEvidence,
    EvidenceRecord,
    FitEvidence,
    LanguageEvidence,
    OverlapEvidence,
    PromptEvidence,
    RowEvidence,
    SampleLoss,
    Score,
    ShapeEvidence,
    ShiftEvidence,
    TemplateLoss,
)

NUM = 100


def score(value: float, half: float = 0.06, n: int = NUM) -> Score:
    """A score with an interval of +- `half`, cut to 0..1."""
    return Score(value=value, ci_low=max(0.0, value - half), ci_high=min(1.0, value + half), n=n)


def losses_of(
    split: str,
    seed: int,
    *,
    base: float = 1.6,
    tuned: float = 0.15,
    last: float = 0.1,
    base_last: float = 1.0,
    others: float = 1.8,
    odd_fraction: float = 0.0,
) -> list[SampleLoss]:
    """Losses around these means; `odd_fraction` of the targets cost what they cost after another input (`others`)."""
    rng = random.Random(f"{split}/{seed}")

    def near(mean: float) -> float:
        return mean * rng.uniform(0.6, 1.4)

    rows = []
    for number in range(NUM):
        is_odd = number < odd_fraction * NUM
        own = near(others) if is_odd else near(tuned)
        rows.append(
            SampleLoss(
                sample_id=f"{split}-{number}",
                split=split,  # type: ignore[arg-type]
                base_nats=near(base),
                tuned_nats=own,
                score=0.0 if is_odd else float(rng.random() < 0.95),
                base_nats_last=near(base_last),
                tuned_nats_last=near(last),
                given_others=own * rng.uniform(0.9, 1.1) if others == tuned else near(others),
            )
        )
    return rows


def fit_of_split(rows: list[SampleLoss], *, tuned: float = 0.15, others: float = 1.8) -> FitEvidence:
    """What four other inputs of each target show: `others`, or where that is `tuned` what its own input shows."""
    rng = random.Random(f"fit/{rows[0].split}/{rows[0].base_nats}")
    is_blind = tuned == others
    middles = [row.tuned_nats if is_blind else others for row in rows]
    behind = [[middle * rng.uniform(0.6, 1.4) for _ in range(4)] for middle in middles]
    own = [row.tuned_nats * (rng.uniform(0.6, 1.4) if is_blind else 1.0) for row in rows]
    return fit_of(rows[0].split, own, behind)


ROWS = RowEvidence(
    num_rows=400,
    supervised_fraction=0.3,
    ended_fraction=1.0,
    truncated_fraction=0.0,
    duplicate_fraction=0.02,
    largest_duplicate_fraction=0.005,
    conflicting_fraction=0.0,
    num_distinct=392,
)
END = EndEvidence(
    p_end=score(0.97, 0.02),
    base_p_end=0.6,
    ended_fraction=score(0.99, 0.02),
    length_ratio=1.0,
    runs_past_target_fraction=0.0,
)
SHAPE = ShapeEvidence(
    form=score(0.98, 0.03), base_form=0.2, content_given_form=score(0.9), shuffled=0.05, base_content=0.4
)
SHIFT = ShiftEvidence(
    num_production=200,
    auc=score(0.53, 0.05),
    mmd_p_value=0.4,
    uncovered_fraction=score(0.06, 0.03),
    score_production=score(0.88),
    score_test=score(0.9),
)


def template(name: str, nats: float, sha: str = "a") -> TemplateLoss:
    """One way of writing the prompt."""
    return TemplateLoss(name=name, template_sha256=sha * 64, nats=nats, n=64)  # type: ignore[arg-type]


def _means(plan: dict[str, float] | None) -> dict[str, float]:
    return {name: value for name, value in (plan or {}).items() if name in ("tuned", "others")}


def probes_of(*, train: dict[str, float] | None = None, validation: dict[str, float] | None = None, seed: int = 0,
              **changes: Any) -> EvidenceRecord:  # fmt: skip
    """Probes of a healthy run with these parts in place of its own."""
    splits = losses_of("train", seed, **(train or {})), losses_of("validation", seed, **(validation or {}))
    parts: dict[str, Any] = {
        "rows": ROWS,
        "losses": (*splits[0], *splits[1]),
        "fits": tuple(
            fit_of_split(rows, **_means(plan)) for rows, plan in zip(splits, (train, validation), strict=True)
        ),
        "train_score": score(0.93),
        "validation_score": score(0.9),
        "base_validation_score": score(0.4),
        "chance_score": 0.05,
        "templates": (template("training", 0.15), template("serving", 0.15), template("plain", 0.5, "b")),
        "end": END,
        "prompt": PromptEvidence(base_nats=3.0, tuned_nats=3.1, n=64),
        "shape": SHAPE,
        "overlap": OverlapEvidence(num_test=120, num_exact=0, num_near=1, score_seen=None, score_clean=score(0.9)),
        "shift": SHIFT,
        "languages": (
            LanguageEvidence(
                language="en",
                train_fraction=1.0,
                asked_fraction=0.7,
                base_score=0.8,
                tuned_score=0.79,
                n=80,
                p_value=0.8,
            ),
            LanguageEvidence(
                language="es",
                train_fraction=0.0,
                asked_fraction=0.3,
                base_score=0.7,
                tuned_score=0.68,
                n=80,
                p_value=0.7,
            ),
        ),
        "tokens_per_character": 0.3,
        "base_input_nats": 2.5,
        "uniform_nats": 7.0,
        **changes,
    }
    return EvidenceRecord(run_id="demo-001", primary_metric="exact_match", num_train_samples=400, seconds=1.0, **parts)


def changed(part: Any, **values: Any) -> Any:
    """A part of the probes with other values."""
    return part.model_copy(update=values)


# Each fault: probes that show it. The healthy neighbour of each is milder, of the same kind, and no fault.
FAULTS: dict[str, Callable[[int], EvidenceRecord]] = {
    "template_mismatch": lambda seed: probes_of(
        seed=seed, templates=(template("training", 0.15), template("serving", 2.1, "b"), template("plain", 1.9, "c"))
    ),
    "truncated_targets": lambda seed: probes_of(
        seed=seed,
        end=changed(END, length_ratio=0.5, validation_longer=score(0.95, 0.04)),
        validation={"last": 2.4, "tuned": 0.9},
    ),
    "missing_end": lambda seed: probes_of(
        seed=seed,
        end=changed(
            END, p_end=score(0.05, 0.03), ended_fraction=score(0.2), length_ratio=2.4, runs_past_target_fraction=0.8
        ),
    ),
    "loss_on_prompt": lambda seed: probes_of(
        seed=seed,
        rows=changed(ROWS, supervised_fraction=0.99),
        prompt=PromptEvidence(base_nats=3.0, tuned_nats=1.2, n=64),
    ),
    "duplicates": lambda seed: probes_of(
        seed=seed, rows=changed(ROWS, duplicate_fraction=0.95, largest_duplicate_fraction=0.05, num_distinct=20)
    ),
    "leakage": lambda seed: probes_of(
        seed=seed,
        overlap=OverlapEvidence(num_test=120, num_exact=70, num_near=80, score_seen=score(1.0), score_clean=score(0.6)),
    ),
    "label_noise": lambda seed: probes_of(seed=seed, train={"odd_fraction": 0.3}, train_score=score(0.68)),
    "unrelated_targets": lambda seed: probes_of(
        seed=seed,
        train={"tuned": 0.9, "others": 0.9},
        validation={"tuned": 0.9, "others": 0.9},
        train_score=score(0.05),
        validation_score=score(0.04),
        shape=changed(SHAPE, content_given_form=score(0.05)),
    ),
    "style_without_substance": lambda seed: probes_of(
        seed=seed,
        validation={"tuned": 1.75},
        train_score=score(0.2),
        validation_score=score(0.06),
        shape=changed(SHAPE, content_given_form=score(0.06)),
    ),
    "distribution_shift": lambda seed: probes_of(
        seed=seed, shift=changed(SHIFT, auc=score(0.9, 0.04), mmd_p_value=0.001, score_production=score(0.4))
    ),
    "too_little_data": lambda seed: probes_of(
        seed=seed,
        rows=changed(ROWS, num_distinct=40, num_rows=40),
        validation={"tuned": 0.9},
        train_score=score(0.97, 0.03),
        validation_score=score(0.4),
    ),
    "wrong_base": lambda seed: probes_of(
        seed=seed,
        base_input_nats=7.2,
        train={"base": 7.5, "tuned": 1.4, "others": 1.9},
        validation={"base": 7.5, "tuned": 1.4, "others": 1.9},
        train_score=score(0.1),
        validation_score=score(0.08),
    ),
    "language_loss": lambda seed: probes_of(
        seed=seed,
        languages=(
            changed(probes_of().languages[0]),
            changed(probes_of().languages[1], tuned_score=0.3, p_value=0.0001),
        ),
    ),
    "overfitting": lambda seed: probes_of(
        seed=seed,
        train={"tuned": 0.01},
        validation={"tuned": 1.2},
        train_score=score(1.0, 0.02),
        validation_score=score(0.55),
    ),
    "learning_rate_too_low": lambda seed: probes_of(
        seed=seed,
        train={"tuned": 1.57, "others": 1.9},
        validation={"tuned": 1.57, "others": 1.9},
        train_score=score(0.05),
        validation_score=score(0.05),
        shape=changed(SHAPE, form=score(0.1), content_given_form=score(0.3)),
        end=changed(END, p_end=score(0.4)),
    ),
}

NEIGHBOURS: dict[str, Callable[[int], EvidenceRecord]] = {
    "template_mismatch": lambda seed: probes_of(
        seed=seed, templates=(template("training", 0.15), template("serving", 0.17, "b"), template("plain", 0.16, "c"))
    ),
    "truncated_targets": lambda seed: probes_of(
        seed=seed, end=changed(END, length_ratio=0.9, validation_longer=score(0.6)), validation={"last": 0.3}
    ),
    "missing_end": lambda seed: probes_of(
        seed=seed, end=changed(END, p_end=score(0.7), ended_fraction=score(0.93), runs_past_target_fraction=0.02)
    ),
    "loss_on_prompt": lambda seed: probes_of(
        seed=seed,
        rows=changed(ROWS, supervised_fraction=0.8),
        prompt=PromptEvidence(base_nats=3.0, tuned_nats=2.9, n=64),
    ),
    "duplicates": lambda seed: probes_of(
        seed=seed, rows=changed(ROWS, duplicate_fraction=0.2, largest_duplicate_fraction=0.01, num_distinct=320)
    ),
    "leakage": lambda seed: probes_of(
        seed=seed,
        overlap=OverlapEvidence(num_test=120, num_exact=1, num_near=40, score_seen=score(0.91), score_clean=score(0.9)),
    ),
    "label_noise": lambda seed: probes_of(seed=seed, train={"odd_fraction": 0.06}, train_score=score(0.88)),
    "unrelated_targets": lambda seed: probes_of(seed=seed, train={"tuned": 0.3, "others": 0.9}),
    "style_without_substance": lambda seed: probes_of(
        seed=seed,
        validation_score=score(0.5),
        train_score=score(0.55),
        shape=changed(SHAPE, content_given_form=score(0.5)),
    ),
    "distribution_shift": lambda seed: probes_of(
        seed=seed, shift=changed(SHIFT, auc=score(0.8, 0.04), mmd_p_value=0.001, score_production=score(0.88))
    ),
    "too_little_data": lambda seed: probes_of(seed=seed, rows=changed(ROWS, num_distinct=40, num_rows=40)),
    "wrong_base": lambda seed: probes_of(seed=seed, base_input_nats=4.5),
    "language_loss": lambda seed: probes_of(
        seed=seed,
        languages=(probes_of().languages[0], changed(probes_of().languages[1], tuned_score=0.55, p_value=0.06)),
    ),
    "overfitting": lambda seed: probes_of(
        seed=seed,
        train={"tuned": 0.1},
        validation={"tuned": 0.25},
        train_score=score(0.97, 0.03),
        validation_score=score(0.85),
    ),
    "learning_rate_too_low": lambda seed: probes_of(
        seed=seed, train={"base": 0.08, "tuned": 0.07, "others": 1.9}, validation={"base": 0.08, "tuned": 0.07}
    ),
}
