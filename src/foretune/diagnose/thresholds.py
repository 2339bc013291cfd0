"""Every threshold of the diagnosis in one place, with its unit and where it comes from."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """Where each statistic reaches 1. Fractions in 0..1, losses in nats a token.

    "fitted" means: on the development half of the planted-fault suite (`benchmarks/diagnose.py`), never on the half
    that is reported. "literature" and "judgement" are starting values that the suite left where they were.
    """

    # --- template and tokens ---
    template_gap_nats: float = 0.3  # serving over the best other way of writing the prompt; prototype: 0.5
    template_gap_fraction: float = 0.25  # the same as a share of the loss after the serving prompt; judgement
    template_gap_known_nats: float = 0.1  # the same where the two templates are known to differ
    truncated_fraction: float = 0.02  # rows whose target was cut; literature: complete in 98 %
    missing_length: float = 0.2  # of the median target's tokens that the median answer lacks; judgement
    unseen_nats: float = 0.5  # whole validation rows over what training's own validation said; prototype
    unseen_ratio: float = 2.0  # the same as a ratio; 1 by definition where nothing is cut
    length_chance: float = 0.15  # beyond 0.5, lower end, that a validation target is the longer one; judgement
    unended_fraction: float = 0.02  # rows without a trained end; literature: ended in 98 %
    end_loss: float = 0.1  # of training's own validation loss: how much nearer rows without ends are; judgement
    end_probability: float = 0.5  # P(end | whole reference) below; literature
    runs_on_fraction: float = 0.15  # answers that do not end by themselves, or run past their target; judgement
    extra_length: float = 0.2  # of the median target's tokens that the median answer has beyond them; judgement
    supervised_fraction: float = 0.97  # of the tokens carry loss; literature: 0.98
    prompt_supervised_fraction: float = 0.5  # rows whose prompt carries loss; judgement
    prompt_fall_fraction: float = 0.5  # fall of the prompt's own loss, of its loss before; judgement
    prompt_fall_nats: float = 0.3  # the same in nats; literature

    # --- pairs of input and target ---
    duplicate_fraction: float = 0.4  # samples that repeat an earlier one; prototype: 0.5
    largest_duplicate_fraction: float = 0.2  # share of the largest group of equal samples; judgement
    information: float = 0.1  # share of a target's loss that its own input takes away: less is unrelated; judgement
    unrelated_nats: float = 0.1  # loss that stays on training targets: below, there is nothing to relate; judgement
    unrelated_fraction: float = 0.45  # targets that fit no better than another's; some are learned by heart; judgement
    noisy_fraction: float = 0.15  # the same: fewer are what any task has; judgement
    noise_excess: float = 0.1  # the same of training over validation where that has hardly any, lower end; judgement
    most_noisy_fraction: float = 0.65  # the same: above, nothing is left that the others could teach; judgement
    confused_fraction: float = 0.06  # of pairings with another's input that fit better than the usual target; judgement
    odd_cost: float = 0.6  # unlikeness of a target that is listed to be read: 0 learned, 1 unrelated; judgement
    conflicting_fraction: float = 0.1  # samples whose equal input has another target; judgement
    word_confusion: float = 0.35  # pairings told better than the median target; 0.5: unrelated; second round
    word_clear: float = 0.1  # the same where nearly every target is told by its input's words; second round

    # --- held-out data ---
    exact_overlap_fraction: float = 0.02  # held-out inputs that training saw; literature: 0.01
    near_overlap_fraction: float = 0.2  # near-duplicates among them, where they score higher; judgement
    least_overlap: int = 3  # held-out rows
    alike_excess: float = 0.1  # test inputs like training rows, beyond validation's share, lower end; judgement
    shift_auc: float = 0.6  # area under the curve of train against production, lower end; literature
    shift_loss: float = 0.02  # metric on production below that on test, lower end; judgement
    shift_cost: float = 0.1  # what production's targets cost over validation's, as a share, lower end; judgement
    uncovered_fraction: float = 0.15  # production far from training, lower end; literature: 0.1

    # --- substance ---
    form: float = 0.8  # answers that look like targets, lower end; literature: 0.9
    content: float = 0.25  # content given form above chance, of what could be above; literature: 0.35
    few_samples: float = 150.0  # distinct training samples; judgement
    few_samples_gap: float = 0.1  # train over held-out score of so few, where the loss proves a gap; judgement
    poor_score: float = 0.8  # upper end of a validation score that is poor; judgement
    base_ignorance: float = 0.75  # loss on inputs over that of a model that knows nothing; judgement
    base_skills: float = 0.08  # of the general tasks solved by a base that knows nothing; judgement
    base_score: float = 0.9  # upper end of the validation score of a task that fails on it; judgement
    tokens_per_character: float = 0.75  # a tokenizer that spells the language out; judgement

    # --- learning ---
    score_gap: float = 0.15  # train over held-out score, where the loss proves a gap; literature: 0.3
    even_scores: float = 0.2  # upper end of the same difference: no more than this harms nobody; judgement
    loss_ratio: float = 1.5  # validation over training loss; literature
    loss_gap_nats: float = 0.1  # validation over training loss, lower end; literature
    little_gain: float = 0.4  # relative fall of the training targets' loss, upper end; judgement
    unfinished_gain: float = 0.7  # the same where validation fell in a straight line; judgement
    early_share: float = 2 / 3  # of validation's fall in the first half of the effort; 1/2 by definition is straight
    moderate_gain: float = 0.5  # the same for underfitting; judgement
    few_steps: float = 24.0  # optimizer steps after which a poor score may be due to their number; judgement
    late_fall: float = 0.25  # of the validation loss halfway, taken by the second half of so few steps; judgement
    damaged: float = 1.0  # tuned over base loss of training targets; by definition
    kept_skills: float = 0.5  # of the general skills' scores, upper end; literature
    kept_skills_mixed: float = 0.45  # the same, upper end, where enough general rows are in training; judgement
    general_rows: int = 50  # different general rows that can keep skills; judgement
    low_score: float = 0.3  # train score of a task that is not learned; literature

    learned: float = 0.3  # relative gain from which signs are not those of a model that learned nothing; judgement

    # --- curves ---
    above_start: float = 1.1  # last loss over first; judgement
    climb: float = 1.4  # the same for five steps of a run under way, at rates above the usual ones; second round
    rebound: float = 0.25  # climb of the smoothed loss above its lowest value, as a share of it; judgement
    rebound_of_fall: float = 0.2  # the same as a share of what had been gained; judgement
    spike: float = 0.5  # height of a spike as a share of the first loss; judgement
    curve_fall: float = 0.1  # of the first loss; a run that learned falls by more; judgement
    bend: float = 1.5  # standard errors of an exponential part beside the straight one; judgement
    curve_rise: float = 0.05  # validation above its lowest value over two validations or more; literature: 0.2 over one
    curve_rise_nats: float = 0.02  # the same in nats; judgement
    plateau: float = 0.01  # validation stands still where it gains no more than this fraction; judgement
    plateau_train_fall: float = 0.15  # share by which training falls on while validation stands still; judgement
    late_share: float = 0.15  # of the whole fall that lies in the last quarter of the effort; judgement
    little_fall: float = 0.5  # of the first loss; judgement
    good_score: float = 0.8  # of a metric: no lack of capacity is claimed from here; judgement

    # --- general skills and languages ---
    general_fraction: float = 0.1  # of training that should keep general skills; literature: 0.1 to 0.2
    forgetting_fall: float = 0.1  # of one general skill, points; literature: 0.03 with interval, 0.1 without
    forgetting_mean_fall: float = 0.05  # of all general skills, points; judgement
    language_fraction: float = 0.5  # of what is asked in a language that training shows; literature
    language_fall: float = 0.1  # of general skills in one language, points; judgement


DEFAULT = Thresholds()
