"""Faults of what the model is fed: another template at serving, cut targets, no end, loss on the prompt."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import NamedTuple

from foretune.diagnose.behaviour import gain, losses_of
from foretune.diagnose.evidence import Evidence, percent, strength
from foretune.records.diagnosis import Cause, DataStep
from foretune.records.evidence import EndEvidence, EvidenceRecord, Score, TemplateLoss

__all__ = [
    "end_needs",
    "lengths_differ",
    "loss_on_prompt",
    "missing_end",
    "prompt_needs",
    "template_mismatch",
    "template_needs",
    "truncated_targets",
    "truncation_needs",
]

WORTH_SAYING = 0.75  # of a statistic, from which its sign is told
UNSEEN_MOST = 10.0  # cap of one statistic
RUNS_ON = 1.5  # answers over targets in length, from which the targets themselves may run on
CUT_ANSWERS = "Cut answers before another row's input or where they repeat themselves: --apply writes the data so."


# --- the template ---------------------------------------------------------------------------------------------------


def template_needs(evidence: Evidence) -> str:
    """What is missing to compare templates; "" if nothing is."""
    missing = evidence.no_probes("templates")
    if missing or evidence.probes is None:
        return missing
    names = {template.name for template in evidence.probes.templates}
    return "" if "serving" in names and len(names) > 1 else "needs the serving template and one other"


def template_mismatch(evidence: Evidence) -> Cause | None:
    """Targets that are far likelier after another way of writing the prompt than after the one that serves."""
    assert evidence.probes is not None
    limits = evidence.thresholds
    by_name: dict[str, TemplateLoss] = {template.name: template for template in evidence.probes.templates}
    serving = by_name["serving"]
    best = min((one for one in evidence.probes.templates if one.name != "serving"), key=lambda one: one.nats)
    gap = serving.nats - best.nats
    spared = max(0.0, gap) / max(serving.nats, 1e-6)  # a broken model is poor after every template
    statistic = min(gap / limits.template_gap_nats, spared / limits.template_gap_fraction)
    training = by_name.get("training")
    differs = training is not None and training.template_sha256 != serving.template_sha256
    if training is not None and not differs and not evidence.without_settings:
        return None  # trained as it serves; a model that has learned little may like any other form better
    if differs and training is not None and not evidence.without_settings:
        statistic = max(statistic, (serving.nats - training.nats) / limits.template_gap_known_nats)
    if statistic <= 0:
        return None
    seen = "another template than training's" if differs and not evidence.without_settings else "its template"
    return Cause(
        mode="template_mismatch",
        statistic=strength(statistic),
        evidence=(
            f"After the serving prompt, {seen}, targets cost {serving.nats:.3f} nats a token; after the "
            f"{best.name} template {best.nats:.3f} (n = {serving.n}).",
        ),
        explanation="The model is asked in another form than the one it was trained on, so what it learned does not "
        "come out.",
        fixes=(
            f"Ask and train in one form: serve with the {best.name} template, and ship it with the adapter.",
            "If training used the wrong form, train again with the template of the base that serves.",
        ),
        patch=_chat_patch(evidence),
    )


def _chat_patch(evidence: Evidence) -> dict[str, object]:
    """Rows that carry a template of their own as raw text are told apart from it by the task."""
    return {"data.task": "auto"} if evidence.job.data.task == "text" else {}


# --- cut targets ----------------------------------------------------------------------------------------------------


def truncation_needs(evidence: Evidence) -> str:
    """What is missing to see cut targets; "" if nothing is."""
    end = evidence.probes.end if evidence.probes is not None else None
    if evidence.rows is not None or (end is not None and end.validation_longer is not None):
        return ""
    return evidence.no_probes("whole_validation_nats")


def truncated_targets(evidence: Evidence) -> Cause | None:
    """Training rows whose target was cut: counted, or by answers that stop early, or by parts that were not trained."""
    assert evidence.probes is not None
    limits, rows = evidence.thresholds, evidence.rows
    cut = rows.truncated_fraction if rows is not None else 0.0
    short, unseen = _stops_early(evidence), _unseen_part(evidence)
    statistic = max(cut / limits.truncated_fraction, short.statistic, unseen.statistic)
    if statistic <= 0:
        return None
    lines = [f"{percent(cut, 1)} of the training rows end in the middle of their target."] if cut else []
    job = evidence.job
    patch = {"train.max_seq_len": 0} if job.train.max_seq_len else {}
    fixes = ["Let rows be as long as they are: train.max_seq_len = 0."] if patch else []
    return Cause(
        mode="truncated_targets",
        statistic=strength(statistic),
        evidence=(*lines, *(one.sentence for one in (short, unseen) if one.sentence)),
        explanation="The ends of the targets were cut off before training, so the model never saw how an answer ends.",
        fixes=(*fixes, "Complete or drop targets that are cut in the data; split samples that are too long."),
        patch=patch,
    )


class _Sign(NamedTuple):
    """One sign with its strength (1 at the threshold) and what it says in numbers."""

    statistic: float = 0.0
    sentence: str = ""


def _stops_early(evidence: Evidence) -> _Sign:
    """The weaker of: answers lack much of their targets' length, and so do training's targets; 0 before it learned."""
    assert evidence.probes is not None
    end, learned, limits = evidence.probes.end, gain(losses_of(evidence.probes, "train")), evidence.thresholds
    longer = end.validation_longer if end is not None else None
    if end is None or longer is None or (learned is not None and learned.value < limits.learned):
        return _Sign()
    missing = max(0.0, 1 - end.length_ratio) / limits.missing_length
    shown = max(0.0, longer.ci_low - 0.5) / limits.length_chance
    sentence = f"The median answer has {end.length_ratio:.2f} times the tokens of the median target."
    return _Sign(min(missing, shown), f"{sentence}{_lengths_words(longer)}" if min(missing, shown) > 0 else "")


def _lengths_words(longer: Score | None) -> str:
    if longer is None:
        return ""
    return (
        f" A validation target is longer than one of training with chance {longer.value:.2f} ({longer.ci_low:.2f} to "
        f"{longer.ci_high:.2f}; 0.5 = alike)."
    )


def lengths_differ(evidence: Evidence) -> bool:
    """Whether training's targets are shorter or longer than validation's: a fault of the data, whatever was learned."""
    end = evidence.probes.end if evidence.probes is not None else None
    longer = end.validation_longer if end is not None else None
    if longer is None:
        return False
    return max(longer.ci_low - 0.5, 0.5 - longer.ci_high) >= evidence.thresholds.length_chance


def _unseen_part(evidence: Evidence) -> _Sign:
    """Whole validation rows cost far more than training's own validation said: it measured, and trained, a part."""
    assert evidence.probes is not None
    limits, probes, told = evidence.thresholds, evidence.probes, _told(evidence)
    if probes.whole_validation_nats is None or told is None:
        return _Sign()
    found = min(probes.whole_validation_nats, probes.unended_validation_nats or probes.whole_validation_nats)
    statistic = min((found - told) / limits.unseen_nats, found / max(told, 0.01) / limits.unseen_ratio, UNSEEN_MOST)
    if statistic < WORTH_SAYING:
        return _Sign(max(statistic, 0.0))
    return _Sign(
        statistic,
        f"Validation during training ended at {told:.3f} nats a token, but whole validation rows cost {found:.3f}.",
    )


def _told(evidence: Evidence) -> float | None:
    """Training's own validation loss of the weights that were kept, the best; None where there was none."""
    return min((point.loss for point in evidence.curves.finite_validation), default=None)


# --- the end --------------------------------------------------------------------------------------------------------


def end_needs(evidence: Evidence) -> str:
    """What is missing to see whether answers end; "" if nothing is."""
    return "" if evidence.rows is not None else evidence.no_probes("end")


def missing_end(evidence: Evidence) -> Cause | None:
    """Rows that do not train the end token, or a model that has learned its task and does not stop."""
    assert evidence.probes is not None
    limits, rows, end = evidence.thresholds, evidence.rows, evidence.probes.end
    counted = (1 - rows.ended_fraction) / limits.unended_fraction if rows is not None else 0.0
    untold = _end_unseen(evidence)
    statistic = max(counted, _runs_on(evidence), untold.statistic)
    if statistic <= 0:
        return None
    lines = [untold.sentence] if untold.sentence else []
    if rows is not None and counted > 0:
        lines.append(f"{percent(1 - rows.ended_fraction, 1)} of the training rows do not train the end of the answer.")
    if end is not None:
        lines.append(
            f"After a whole right answer the end token has probability {end.p_end.value:.2f} (base "
            f"{end.base_p_end:.2f}); {percent(end.ended_fraction.value)} of the answers end by themselves, at "
            f"{end.length_ratio:.1f} times the length of the targets.{_lengths_words(end.validation_longer)}"
        )
    run_on = counted < 1 and end is not None and _targets_run_on(end)
    steps = (DataStep(do="cut_answers", why="answers go on behind their end"),) if run_on else ()
    return Cause(
        mode="missing_end",
        statistic=strength(statistic),
        evidence=tuple(lines),
        explanation="The model was never shown where an answer ends, so it goes on after it.",
        fixes=(
            "End every answer with the base's end token and let it carry loss; mask padding by length, never by id.",
            "foretune tokens shows the end of each row as training sees it.",
            *([CUT_ANSWERS] if steps else []),
        ),
        patch=_chat_patch(evidence),
        data_steps=steps,
    )


def _end_unseen(evidence: Evidence) -> _Sign:
    """Training's own validation cost what whole rows cost without their ends, and not what they cost with them."""
    assert evidence.probes is not None
    told, whole, unended = (
        _told(evidence),
        evidence.probes.whole_validation_nats,
        evidence.probes.unended_validation_nats,
    )
    if told is None or whole is None or unended is None:
        return _Sign()
    nearer = (abs(whole - told) - abs(unended - told)) / max(told, 0.01)
    statistic = min(nearer / evidence.thresholds.end_loss, UNSEEN_MOST)
    if statistic < WORTH_SAYING or abs(unended - told) > abs(whole - unended) / 2:
        return _Sign()
    return _Sign(
        statistic,
        f"Validation during training ended at {told:.3f} nats a token, what its rows cost without their ends "
        f"({unended:.3f}; with them {whole:.3f}).",
    )


def _targets_run_on(end: EndEvidence) -> bool:
    """Whether training's targets themselves go on: they are longer than validation's; by the answers where unknown."""
    longer = end.validation_longer
    return end.length_ratio > RUNS_ON if longer is None else longer.ci_high < 0.5 and end.length_ratio > 1


def _runs_on(evidence: Evidence) -> float:
    """The weaker of: the end is unlikely after a right answer, and answers really go on; 0 before a task is learned."""
    assert evidence.probes is not None
    end, limits = evidence.probes.end, evidence.thresholds
    learned = gain(losses_of(evidence.probes, "train"))
    if end is None or (learned is not None and learned.value < limits.learned):
        return 0.0
    unlikely = (1 - end.p_end.ci_high) / (1 - limits.end_probability)
    goes_on = max(1 - end.ended_fraction.ci_high, end.runs_past_target_fraction) / limits.runs_on_fraction
    return min(unlikely, max(goes_on, (end.length_ratio - 1) / limits.extra_length))


# --- the prompt -----------------------------------------------------------------------------------------------------


def prompt_needs(evidence: Evidence) -> str:
    """What is missing to see loss on the prompt; "" if nothing is."""
    if evidence.job.train.method in ("pretrain", "classify", "regress"):
        return f"method {evidence.job.train.method} has no prompt apart from the target"
    return "" if evidence.rows is not None else evidence.no_probes("prompt")


def loss_on_prompt(evidence: Evidence) -> Cause | None:
    """Nearly all tokens carry loss, or the prompt's own loss fell as only training on it makes it fall."""
    assert evidence.probes is not None
    limits, rows, prompt = evidence.thresholds, evidence.rows, evidence.probes.prompt
    counted = 0.0
    if rows is not None:
        whole, prompts = rows.supervised_fraction, rows.prompt_supervised_fraction
        counted = max(whole / limits.supervised_fraction, prompts / limits.prompt_supervised_fraction)
    else:  # what the tokens show decides where they were seen: a rate too high moves prompts as well
        counted = _prompt_fall(evidence.probes, limits.prompt_fall_nats, limits.prompt_fall_fraction)
    lines = []
    if rows is not None:
        lines.append(
            f"{percent(rows.supervised_fraction)} of the training tokens carry loss; in "
            f"{percent(rows.prompt_supervised_fraction)} of the rows some of the prompt does."
        )
    if prompt is not None:
        lines.append(
            f"The loss of the prompts themselves went from {prompt.base_nats:.3f} to {prompt.tuned_nats:.3f} nats a "
            f"token (n = {prompt.n})."
        )
    return Cause(
        mode="loss_on_prompt",
        statistic=strength(max(counted, 0.0)),
        evidence=tuple(lines),
        explanation="Training teaches the model to write questions as well as answers: capacity and steps go into "
        "what it is never asked to produce.",
        fixes=('Train on the answers alone: train.advanced.train_on = "assistant".',),
        patch={"train.advanced.train_on": "assistant"} if evidence.job.train.advanced.train_on == "all" else {},
    )


def _prompt_fall(probes: EvidenceRecord, least_nats: float, least_fraction: float) -> float:
    prompt = probes.prompt
    if prompt is None or prompt.base_nats <= 0:
        return 0.0
    fall = prompt.base_nats - prompt.tuned_nats
    return min(fall / least_nats, fall / prompt.base_nats / least_fraction)
