"""What training cannot give: form without content, a base that cannot, too few samples."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from statistics import fmean

from foretune.diagnose.behaviour import gain, losses_of
from foretune.diagnose.evidence import MOST, Evidence, is_lower_better, percent, strength
from foretune.diagnose.fits import unlike, word_fit
from foretune.diagnose.overfitting import learned_by_heart
from foretune.records.diagnosis import Cause
from foretune.records.evidence import ShapeEvidence

__all__ = [
    "base_needs",
    "little_data_needs",
    "style_needs",
    "style_without_substance",
    "too_little_data",
    "wrong_base",
]


# --- style ----------------------------------------------------------------------------------------------------------


def style_needs(evidence: Evidence) -> str:
    """What is missing to tell form from content; "" if nothing is."""
    return evidence.no_probes("shape")


def style_without_substance(evidence: Evidence) -> Cause | None:
    """Answers that look like targets and hold no more of their content than another sample's target would.

    Where the model tells targets from those of others, though seldom well enough to say them, the task is hard for it.
    """
    assert evidence.probes is not None and evidence.probes.shape is not None
    limits, shape = evidence.thresholds, evidence.probes.shape
    words = word_fit(evidence)  # where the words show the relation, the answers in training are not at fault
    room = max(1 - shape.shuffled, 0.05)
    content = max(0.0, shape.content_given_form.ci_high - shape.shuffled) / room
    statistic = min(
        shape.form.ci_low / limits.form,
        limits.content / max(content, limits.content / 50),
        unlike(evidence) / limits.unrelated_fraction,
        MOST if words is None else words.confusion,
    )
    return Cause(
        mode="style_without_substance",
        statistic=strength(statistic),
        evidence=(
            f"{percent(shape.form.value)} of the answers have the form of the targets (base "
            f"{percent(shape.base_form)}), but their score is {shape.content_given_form.value:.3f}, against "
            f"{shape.shuffled:.3f} by chance (n = {shape.content_given_form.n}).",
            _known(shape),
        ),
        explanation="The model sounds right and says the wrong thing: it learned how answers look, not what they say.",
        fixes=_style_fixes(shape),
        patch={},
    )


def _known(shape: ShapeEvidence) -> str:
    if shape.base_content > shape.shuffled + 0.1:
        return f"The base with its best prompt reaches {shape.base_content:.3f}: it can know the content."
    return f"The base with its best prompt reaches {shape.base_content:.3f} too: the content may not be in the input."


def _style_fixes(shape: ShapeEvidence) -> tuple[str, ...]:
    answers = "Better answers in training: right in content, in several styles at the same quality."
    facts = "Give the facts with the question: evaluate.documents tries retrieval; do not add more style data."
    return (answers, facts) if shape.base_content > shape.shuffled + 0.1 else (facts, answers)


# --- the base -------------------------------------------------------------------------------------------------------


def base_needs(evidence: Evidence) -> str:
    """What is missing to judge the base; "" if nothing is."""
    missing = evidence.no_probes("base_input_nats", "uniform_nats")
    return missing or evidence.no_scores("validation_score")


def wrong_base(evidence: Evidence) -> Cause | None:
    """A base that cannot read the inputs: it predicts them hardly better than by guessing, and the task fails.

    Where general skills were measured as rates, the base must lack these too: a base may be sure and wrong about one
    kind of input, and learn it all the same.
    """
    probes, limits = evidence.probes, evidence.thresholds
    assert probes is not None and probes.base_input_nats is not None and probes.uniform_nats is not None
    assert probes.validation_score is not None
    ignorance = probes.base_input_nats / max(probes.uniform_nats, 1e-6)
    unread, skills = ignorance / limits.base_ignorance, base_skills(evidence)
    if skills is not None:
        unread = min(unread, limits.base_skills / max(skills, 0.01))
    spelled = (probes.tokens_per_character or 0.0) / limits.tokens_per_character
    fails = limits.base_score / max(probes.validation_score.ci_high, 0.01)
    known = [f"It solves {percent(skills)} of the general tasks."] if skills is not None else []
    return Cause(
        mode="wrong_base",
        statistic=strength(min(max(unread, spelled), fails)),
        evidence=(
            f"The base predicts the inputs with {probes.base_input_nats:.2f} nats a token, {percent(ignorance)} of "
            "those of a model that knows only which tokens there are.",
            *known,
            *([f"Its tokenizer takes {probes.tokens_per_character:.2f} tokens a character."] * bool(spelled)),
            f"After training, {probes.primary_metric} on validation is {probes.validation_score.value:.3f}.",
        ),
        explanation="The base has hardly seen this kind of text, its language or its script, so a fine-tune has "
        "nothing to build on.",
        fixes=(
            "Take a base that was pretrained on this language and kind of text: base = ...; foretune plan names some.",
            'Or go on pretraining on raw text of this kind first: train.method = "pretrain".',
        ),
        patch={},
    )


def base_skills(evidence: Evidence) -> float | None:
    """The base's mean score on general skills, 0..1; None where they were not measured as rates."""
    skills = evidence.evaluation.general_skills if evidence.evaluation is not None else ()
    rates = [skill.before for skill in skills if not is_lower_better(skill.metric)]
    return fmean(rates) if rates else None


# --- the number of samples ------------------------------------------------------------------------------------------


def little_data_needs(evidence: Evidence) -> str:
    """What is missing to judge the number of samples; "" if nothing is."""
    return evidence.no_scores("train_score", "validation_score")


def too_little_data(evidence: Evidence) -> Cause | None:
    """Few different samples, learned by heart, that do not carry over to held-out ones.

    No setting mends this: in trials of fewer passes, lower rates and more weight decay on a dozen rows, most lost score
    on held-out rows and none gained enough.
    """
    probes, limits, gap = evidence.probes, evidence.thresholds, learned_by_heart(evidence)
    assert probes is not None
    if gap is None:
        return None
    num = evidence.rows.num_distinct if evidence.rows is not None else probes.num_train_samples
    statistic = min(limits.few_samples / max(num, 1), gap.above(limits.few_samples_gap))
    learned = gain(losses_of(probes, "train"))
    return Cause(
        mode="too_little_data",
        statistic=strength(statistic),
        evidence=(
            f"{num:,} different training samples.",
            *gap.sentences,
            *([f"Training took {percent(learned.value)} of the loss on its targets."] if learned else []),
        ),
        explanation="The model learned its samples, and they are too few to show what they have in common.",
        fixes=(
            f"Gather more, at least {max(4 * num, 2 * round(limits.few_samples)):,} different samples.",
            "Until then let validation choose: train.advanced.eval_every = 5 keeps the state that did best there.",
        ),
        patch={},
    )
