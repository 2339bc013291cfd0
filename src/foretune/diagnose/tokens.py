"""Faults of what the model is fed: another template at serving, cut targets, no end, loss on the prompt."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from foretune.diagnose.behaviour import LEAST_SAMPLES, gain, losses_of
from foretune.diagnose.evidence import Evidence, percent, strength
from foretune.records.diagnosis import Cause, DataStep
from foretune.records.evidence import EvidenceRecord, SampleLoss, TemplateLoss

__all__ = [
    "end_needs",
    "loss_on_prompt",
    "missing_end",
    "prompt_needs",
    "template_mismatch",
    "template_needs",
    "truncated_targets",
    "truncation_needs",
]

UNSEEN_MOST = 10.0  # cap of one statistic
RUNS_ON = 1.5  # answers over targets in length, from which the targets themselves may run on into other rows


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
    if evidence.rows is not None:
        return ""
    return evidence.no_probes("losses") if evidence.without_settings else evidence.no_probes("rows")


def truncated_targets(evidence: Evidence) -> Cause | None:
    """Training rows whose target was cut, or targets whose end alone was not learned."""
    assert evidence.probes is not None
    limits, rows = evidence.thresholds, evidence.rows
    cut = rows.truncated_fraction if rows is not None else 0.0
    short, unlearned, unseen = _stops_early(evidence), _unlearned_end(evidence), _unseen_part(evidence)
    seen = max(unlearned.statistic, unseen.statistic, min(short.statistic, 2 * unlearned.statistic))
    statistic = max(cut / limits.truncated_fraction, seen)
    if statistic <= 0:
        return None
    lines = [f"{percent(cut, 1)} of the training rows end in the middle of their target."] if cut else []
    job = evidence.job
    patch = {"train.max_seq_len": 0} if job.train.max_seq_len else {}
    fixes = ["Let rows be as long as they are: train.max_seq_len = 0."] if patch else []
    return Cause(
        mode="truncated_targets",
        statistic=strength(statistic),
        evidence=(*lines, *(one.sentence for one in (short, unlearned, unseen) if one.sentence)),
        explanation="The ends of the targets were cut off before training, so the model never saw how an answer ends.",
        fixes=(*fixes, "Complete or drop targets that are cut in the data; split samples that are too long."),
        patch=patch,
    )


class _Sign(NamedTuple):
    """One sign with its strength (1 at the threshold) and what it says in numbers."""

    statistic: float = 0.0
    sentence: str = ""


def _stops_early(evidence: Evidence) -> _Sign:
    """Answers are much shorter than targets; 0 before a task is learned."""
    assert evidence.probes is not None
    end, learned, limits = evidence.probes.end, gain(losses_of(evidence.probes, "train")), evidence.thresholds
    if end is None or (learned is not None and learned.value < limits.learned):
        return _Sign()
    missing = max(0.0, 1 - end.length_ratio)
    sentence = f"The median answer has {end.length_ratio:.2f} times the tokens of the median target."
    return _Sign(missing / limits.missing_length, sentence if missing > 0 else "")


def _unlearned_end(evidence: Evidence) -> _Sign:
    """The last tenth of validation targets was not learned although that of training targets was: it was never shown.

    Both by what it costs beyond the whole target and by the share of the base's loss that is gone, the weaker.
    """
    assert evidence.probes is not None
    limits, train = evidence.thresholds, losses_of(evidence.probes, "train")
    validation = losses_of(evidence.probes, "validation")
    learned, whole = gain(train, last=True), gain(train)
    last = gain(validation, last=True)
    if learned is None or last is None or whole is None or whole.value < limits.learned:
        return _Sign()
    behind = _last_over_whole(validation) - _last_over_whole(train)
    statistic = min(behind / limits.truncated_last_nats, (learned.value - last.high) / limits.truncated_gain)
    if statistic <= 0:
        return _Sign()
    return _Sign(
        statistic,
        f"Training took {percent(learned.value)} of the loss on the last tenth of training targets and "
        f"{percent(last.value)} of that of validation targets, where it costs {behind:.2f} nats a token more.",
    )


def _unseen_part(evidence: Evidence) -> _Sign:
    """Whole targets cost far more than training's own validation said: it measured, and trained, a part of them."""
    assert evidence.probes is not None
    limits, validation = evidence.thresholds, losses_of(evidence.probes, "validation")
    points = evidence.curves.finite_validation
    if len(validation) < LEAST_SAMPLES or not points:
        return _Sign()
    told, found = min(point.loss for point in points), fmean(loss.tuned_nats for loss in validation)
    statistic = min((found - told) / limits.unseen_nats, found / max(told, 0.01) / limits.unseen_ratio, UNSEEN_MOST)
    if statistic < 0.5:
        return _Sign(max(statistic, 0.0))
    return _Sign(
        statistic,
        f"Validation during training ended at {told:.3f} nats a token, but whole validation targets cost {found:.3f}.",
    )


def _last_over_whole(losses: Sequence[SampleLoss]) -> float:
    known = [loss for loss in losses if loss.tuned_nats_last is not None]
    return fmean((loss.tuned_nats_last or 0.0) - loss.tuned_nats for loss in known) if known else 0.0


# --- the end --------------------------------------------------------------------------------------------------------


def end_needs(evidence: Evidence) -> str:
    """What is missing to see whether answers end; "" if nothing is."""
    return "" if evidence.rows is not None else evidence.no_probes("end")


def missing_end(evidence: Evidence) -> Cause | None:
    """Rows that do not train the end token, or a model that has learned its task and does not stop."""
    assert evidence.probes is not None
    limits, rows, end = evidence.thresholds, evidence.rows, evidence.probes.end
    counted = (1 - rows.ended_fraction) / limits.unended_fraction if rows is not None else 0.0
    statistic = max(counted, _runs_on(evidence))
    if statistic <= 0:
        return None
    lines = []
    if rows is not None and counted > 0:
        lines.append(f"{percent(1 - rows.ended_fraction, 1)} of the training rows do not train the end of the answer.")
    if end is not None:
        lines.append(
            f"After a whole right answer the end token has probability {end.p_end.value:.2f} (base "
            f"{end.base_p_end:.2f}); {percent(end.ended_fraction.value)} of the answers end by themselves, at "
            f"{end.length_ratio:.1f} times the length of the targets."
        )
    run_on = counted < 1 and end is not None and end.length_ratio > RUNS_ON
    steps = (DataStep(do="cut_answers", why="answers go on into another row"),) if run_on else ()
    return Cause(
        mode="missing_end",
        statistic=strength(statistic),
        evidence=tuple(lines),
        explanation="The model was never shown where an answer ends, so it goes on after it.",
        fixes=(
            "End every answer with the base's end token and let it carry loss; mask padding by length, never by id.",
            "foretune tokens shows the end of each row as training sees it.",
            *(["Cut answers where another row's input begins in them: --apply writes the data so."] if steps else []),
        ),
        patch=_chat_patch(evidence),
        data_steps=steps,
    )


def _runs_on(evidence: Evidence) -> float:
    """The weaker of: the end is unlikely after a right answer, and answers really go on; 0 before a task is learned."""
    assert evidence.probes is not None
    end, limits = evidence.probes.end, evidence.thresholds
    learned = gain(losses_of(evidence.probes, "train"))
    if end is None or (learned is not None and learned.value < limits.learned):
        return 0.0
    unlikely = (1 - end.p_end.ci_high) / (1 - limits.end_probability)
    goes_on = max(1 - end.ended_fraction.ci_high, end.runs_past_target_fraction) / limits.runs_on_fraction
    return min(unlikely, goes_on)


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
