"""Wrong targets against hard ones, and production that is answered worse, at and around what tells them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import ModuleType
from typing import Literal

import pytest

from foretune.diagnose.diagnose import judge
from foretune.diagnose.thresholds import DEFAULT
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evidence import EvidenceRecord, FitEvidence, Score, TailShare
from unit.diagnose import planted
from unit.diagnose.test_probes import evidence_of

LEVELS = (0.1, 0.25, 0.5, 0.7, 0.9)
Rates = tuple[float, float, float, float, float]
NONE: Rates = (0.0, 0.0, 0.0, 0.0, 0.0)
LEARNED, IN_PART = 0.0, 0.2  # pairings with other inputs that fit better than the usual target


def fit(split: Literal["train", "validation"], rates: Rates, *, confused: float, n: int = 200) -> FitEvidence:
    """Targets of which each tail says that such a share is wrong."""
    tails = tuple(
        TailShare(level=level, pairings_fraction=level, targets_fraction=level * rate)
        for level, rate in zip(LEVELS, rates, strict=True)
    )
    return FitEvidence(split=split, n=n, num_pairings=4 * n, cheaper_fraction=confused, tails=tails)


def judged(
    s: ModuleType, train: Rates, validation: Rates, *, confused: tuple[float, float], n: int = 200
) -> DiagnosisRecord:
    """The diagnosis of a run with targets that fit so, sound otherwise."""
    fits = (
        fit("train", train, confused=confused[0], n=n),
        fit("validation", validation, confused=confused[1], n=n // 2),
    )
    return judge(evidence_of(s, planted.probes_of(fits=fits)))


def judged_with_words(
    s: ModuleType, words: Rates, confused_words: float, model: Rates, confused: float
) -> DiagnosisRecord:
    """The same, with what the words alone say of the pairs."""
    fits = tuple(fit(split, model, confused=confused) for split in ("train", "validation"))
    own_words = fit("train", words, confused=confused_words, n=300)
    return judge(evidence_of(s, planted.probes_of(fits=fits, word_fit=own_words)))


def test_words_that_tell_every_target_overrule_a_model_that_knows_none(s: ModuleType) -> None:
    """The task is beyond the model, or its targets are wrong: the words alone can tell which."""
    lost: Rates = (0.3, 0.4, 0.5, 0.6, 0.9)
    assert judged_with_words(s, NONE, 0.0, lost, IN_PART).causes == ()
    a_third: Rates = (0.3, 0.3, 0.3, 0.3, 0.3)
    record = judged_with_words(s, a_third, 0.0, NONE, LEARNED)
    assert [cause.mode for cause in record.roots] == ["label_noise"]
    assert "By their words alone, without a model, it is 30 %." in record.causes[0].evidence
    assert [step.do for step in record.causes[0].data_steps] == ["drop_odd"]  # though no probed row looks odd


def test_words_that_tell_a_part_must_agree_with_the_model(s: ModuleType) -> None:
    noisy: Rates = (0.2, 0.3, 0.5, 0.6, 0.9)
    sound: Rates = (0.0, 0.08, 0.2, 0.6, 0.95)
    assert judged_with_words(s, sound, 0.25, noisy, IN_PART).causes == ()
    assert judged_with_words(s, noisy, 0.25, noisy, IN_PART).causes[0].mode == "label_noise"


def test_words_that_tell_nothing_prove_nothing(s: ModuleType) -> None:
    """Sums are related to their numbers, whatever their words say."""
    noisy: Rates = (0.2, 0.3, 0.5, 0.6, 0.9)
    all_alike: Rates = (1.0, 1.0, 1.0, 1.0, 1.0)
    assert judged_with_words(s, all_alike, 0.5, noisy, IN_PART).causes[0].mode == "label_noise"


@pytest.mark.parametrize("mode", ["unrelated_targets", "style_without_substance"])
def test_targets_that_the_words_relate_are_not_held_against_the_data(s: ModuleType, mode: str) -> None:
    """A model that learned the form alone of rows that hold the content: the rows are not at fault."""
    probes = planted.FAULTS[mode](0)
    assert mode in [cause.mode for cause in judge(evidence_of(s, probes)).causes]
    related = probes.model_copy(update={"word_fit": fit("train", NONE, confused=0.02, n=300)})
    assert mode not in [cause.mode for cause in judge(evidence_of(s, related)).causes]
    unrelated = probes.model_copy(update={"word_fit": fit("train", NONE, confused=0.5, n=300)})
    assert mode in [cause.mode for cause in judge(evidence_of(s, unrelated)).causes]


@pytest.mark.req("R291")
def test_a_task_that_is_known_in_part_is_no_noise(s: ModuleType) -> None:
    """Three quarters of its targets are like those of others by the widest tail, hardly any by the narrow one."""
    hard: Rates = (0.0, 0.06, 0.3, 0.5, 0.8)
    assert judged(s, hard, hard, confused=(IN_PART, IN_PART)).causes == ()
    noisy: Rates = (0.2, 0.3, 0.5, 0.6, 0.9)
    record = judged(s, noisy, noisy, confused=(IN_PART, IN_PART))
    assert [cause.mode for cause in record.roots] == ["label_noise"]
    assert "About 30 % of the targets" in record.causes[0].evidence[0]


def test_wrong_targets_that_were_learned_by_heart_show_at_the_wide_tail(s: ModuleType) -> None:
    """Where the task is learned, the wide tail holds wrong targets alone, and more of them."""
    by_heart: Rates = (0.0, 0.02, 0.15, 0.22, 0.26)
    assert judged(s, by_heart, by_heart, confused=(LEARNED, LEARNED)).causes[0].mode == "label_noise"
    few: Rates = (0.1, 0.08, 0.06, 0.06, 0.1)  # six in a hundred: any task has those
    assert judged(s, few, few, confused=(LEARNED, LEARNED)).causes == ()


def test_noise_of_training_alone_shows_beside_validation(s: ModuleType) -> None:
    """A hard task in which only training has dear targets; and one in which both have, or too few to say so."""
    train: Rates = (0.05, 0.1, 0.3, 0.45, 0.7)
    record = judged(s, train, (0.0, 0.0, 0.02, 0.15, 0.4), confused=(IN_PART, 0.07))
    assert [cause.mode for cause in record.roots] == ["label_noise"]
    assert any("more of these than validation" in line for line in record.causes[0].evidence)
    assert judged(s, train, train, confused=(IN_PART, IN_PART)).causes == ()
    assert judged(s, train, (0.0, 0.0, 0.02, 0.15, 0.4), confused=(IN_PART, 0.07), n=40).causes == ()


def test_a_model_that_fails_on_validation_alone_is_no_noise(s: ModuleType) -> None:
    """What was learned by heart fits in training and not in validation."""
    assert judged(s, NONE, (0.6, 0.5, 0.5, 0.7, 0.8), confused=(0.0, 0.3)).statistics["label_noise"] < 0.5


def test_where_nothing_fits_there_is_no_noise_to_tell(s: ModuleType) -> None:
    nothing: Rates = (1.0, 1.0, 1.0, 1.0, 1.0)
    assert judged(s, nothing, nothing, confused=(0.5, 0.5)).statistics["label_noise"] == 0.0


def test_without_fits_noise_is_not_judged(s: ModuleType) -> None:
    record = judge(evidence_of(s, planted.probes_of(fits=())))
    assert "label_noise" in record.not_checked and "label_noise" not in record.statistics


def blind(fits: tuple[FitEvidence, ...]) -> EvidenceRecord:
    """A run whose training targets' loss does not hang on their input."""
    return planted.FAULTS["unrelated_targets"](0).model_copy(update={"fits": fits})


def test_unrelated_targets_are_most_of_them_or_learned_by_heart(s: ModuleType) -> None:
    """A loss that hardly hangs on inputs is noise where a few targets are odd, and a wrong join where most are."""
    some: Rates = (0.2, 0.25, 0.5, 0.6, 0.9)
    noisy = tuple(fit(split, some, confused=IN_PART) for split in ("train", "validation"))  # type: ignore[arg-type]
    assert judge(evidence_of(s, blind(noisy))).causes[0].mode == "label_noise"
    by_heart = (fit("train", some, confused=IN_PART), fit("validation", NONE, confused=LEARNED))
    assert judge(evidence_of(s, blind(by_heart))).causes[0].mode == "unrelated_targets"


def shifted(s: ModuleType, **changes: object) -> float:
    """The statistic of a shift with these parts."""
    record = judge(evidence_of(s, planted.probes_of(shift=planted.changed(planted.SHIFT, **changes))))
    return record.statistics["distribution_shift"]


def nats(value: float, half: float = 0.03) -> Score:
    """A loss with its interval."""
    return Score(value=value, ci_low=value - half, ci_high=value + half, n=100)


FAR = {"auc": planted.score(0.9, 0.04), "mmd_p_value": 0.002}
LOWER = {"score_production": planted.score(0.82, 0.09), "score_test": planted.score(0.9, 0.09)}  # may be chance


def test_what_targets_cost_shows_a_loss_that_the_score_cannot(s: ModuleType) -> None:
    dear = {"nats_production": nats(0.46), "nats_validation": nats(0.36)}
    assert shifted(s, **FAR, **LOWER) < 1
    assert shifted(s, **FAR, **LOWER, **dear) > 1.2
    assert shifted(s, **FAR, score_production=planted.score(0.92, 0.09), **dear) < 1  # answered as well as ever
    assert shifted(s, **FAR, **LOWER, nats_production=nats(0.37), nats_validation=nats(0.36)) < 1


def test_production_far_from_training_need_not_be_told_by_a_classifier(s: ModuleType) -> None:
    """Inputs of the same words in another order: half of them lie far away, and a linear classifier hardly sees it."""
    worse = {"score_production": planted.score(0.6), "auc": planted.score(0.6, 0.07)}
    assert shifted(s, **worse, mmd_p_value=0.002, uncovered_fraction=planted.score(0.8, 0.1)) > 1.5
    assert shifted(s, **worse, mmd_p_value=0.2, uncovered_fraction=planted.score(0.8, 0.1)) < 1
    assert shifted(s, score_production=planted.score(0.6)) < 1
    assert DEFAULT.shift_loss <= 0.02
