"""Should we fine-tune: measurements in, gates in order, one action out, with what decided and what would change it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from foretune import __version__
from foretune.plan.arms import measured_arms, required_gains, worth_usd
from foretune.plan.gates import (
    LEAST_AGREEMENT,
    LEAST_BEHAVIOUR,
    LEAST_LABELLED,
    MARGIN,
    failure_kinds,
    learning_curve,
    light_arm,
    measurable,
    money,
    prompted_baseline,
    trained_arm,
    visible_gain,
)
from foretune.records.procedure import Action, Gate, Measurements, ProcedureRecord, Stakes

__all__ = ["GATES", "decide_action", "procedure"]

GATES: tuple[Callable[[Measurements], Gate], ...] = (
    measurable,
    prompted_baseline,
    failure_kinds,
    learning_curve,
    money,
)
NEEDED = ("measurable", "prompted baseline", "kind of failure", "learning curve")  # money may stay unsaid


def procedure(
    m: Measurements, *, run_id: str = "", base: str = "", dataset_version: str = "", metric: str = "", job: str = ""
) -> ProcedureRecord:
    """The gates, the action that follows from them, the three numbers that decided and the pre-mortem.

    `job` stands in the commands that measure what is missing. Pure: the same measurements give the same answer.
    """
    gates = tuple(_addressed(gate(m), job) for gate in GATES)
    action, deciding = decide_action(m, gates)
    arms = measured_arms(m)
    return ProcedureRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        foretune_version=__version__,
        run_id=run_id,
        base=base,
        dataset_version=dataset_version,
        metric=metric,
        measurements=m,
        gates=gates,
        action=action,
        stopped_at=deciding.name if deciding is not None and deciding.status == "stop" else "",
        sentence=_sentence(action, deciding),
        numbers=_three(m, deciding),
        pre_mortem=tuple(_pre_mortem(m, action)),
        expected={name: arm.score for name, arm in arms.items()},
        required_gain={name: value for name, value in required_gains(m).items() if name in arms},
        next_command=_next(action, gates, job),
    )


def decide_action(m: Measurements, gates: tuple[Gate, ...] | None = None) -> tuple[Action | None, Gate | None]:
    """The action, None while what decides is not measured, and the gate that it came from.

    The first gate that stops decides; a stop for another reason than a reached target yields to money where no action
    would earn its cost.
    """
    gates = tuple(gate(m) for gate in GATES) if gates is None else gates
    costs = next(gate for gate in gates if gate.name == "money")
    for gate in gates:
        if gate.status == "unknown" and gate.name in NEEDED:
            return None, gate
        if gate.status == "stop":
            return (costs.action, costs) if _yields(m, gate, costs) else (gate.action, gate)
    return trained_arm(m).action, next(gate for gate in gates if gate.name == "learning curve")


def _yields(m: Measurements, gate: Gate, costs: Gate) -> bool:
    """Whether money overrules a gate that stops: no action earns its cost, not even with all errors in its favour.

    What raters at odds hide is counted in favour of automating: with alpha as the reliability of their labels, a score
    of s against them is at most s / sqrt(alpha) against the truth (Spearman 1904, correction for attenuation).
    """
    if costs.action != "do not automate":
        return False
    if gate.name != "measurable":
        return not (gate.name == "prompted baseline" and m.target is not None and gate.action == "prompt")
    least = costs.numbers["break-even score"]
    if m.prompted is None or least is None:
        return False
    best = max(measured_arms(m).values(), key=lambda arm: arm.net)
    alpha = 1.0 if m.human_agreement is None else max(0.05, m.human_agreement)
    hidden = best.score * (1 / math.sqrt(alpha) - 1)
    return m.prompted.value + best.net + hidden < least


def _sentence(action: Action | None, deciding: Gate | None) -> str:
    if deciding is None:
        return ""
    if action is None:
        return f"not decided: {deciding.sentence}"
    return f"{action}: {deciding.sentence}"


def _three(m: Measurements, deciding: Gate | None) -> dict[str, float | None]:
    """Three numbers: those of the deciding gate that are known first."""
    if deciding is None:
        return {}
    known = {name: value for name, value in deciding.numbers.items() if value is not None}
    more = {
        "prompted": None if m.prompted is None else m.prompted.value,
        "labelled samples": None if m.num_labelled is None else float(m.num_labelled),
        "smallest visible gain": visible_gain(m),
    }
    known |= {name: value for name, value in more.items() if value is not None and name not in known}
    return dict(list(known.items())[:3])


def _pre_mortem(m: Measurements, action: Action | None) -> Iterator[str]:
    """Which results would change the answer, the nearest first; nothing where nothing is decided."""
    if action is None:
        return
    yield from _score_changes(m, action)
    if m.human_agreement is None:
        yield f"raters who agree less than alpha {LEAST_AGREEMENT}: collect data first"
    if m.stakes is None or not worth_usd(m.stakes):
        if action.startswith("fine-tune"):
            yield f"a payback of more than {Stakes().max_payback_days:.0f} days: {light_arm(m).action}"
    elif action == "do not automate":
        yield "a cheaper failure, or a dearer success: an answer that earns more than it costs"


def _score_changes(m: Measurements, action: Action) -> Iterator[str]:
    if m.num_labelled is not None and m.num_labelled < LEAST_LABELLED:
        yield f"{LEAST_LABELLED - m.num_labelled} more labelled samples: the next gates can be asked"
    if m.prompted is None:
        return
    arms = measured_arms(m)
    light = light_arm(m)
    if action.startswith("fine-tune"):
        needed = m.prompted.value + max(0.0, trained_arm(m).gain - MARGIN)
        yield f"a prompt at {min(1.0, needed):.1%} instead of {m.prompted.value:.1%}: prompt"
    elif "fine-tune" in arms:
        wanted = light.score + max(MARGIN, arms["fine-tune"].required - light.required)
        yield f"a tuned model at {min(1.0, wanted):.1%} or more, beyond its error: fine-tune"
    elif action != "collect data first" and _is_behaviour_rare(m):
        yield f"{LEAST_BEHAVIOUR:.0%} or more of the failures of behaviour: measure training"
    if action == "prompt" and m.target is not None:
        yield f"a target above {m.prompted.low:.1%}, or a prompt that falls below {m.target:.1%}: the later gates"
    if m.curve is not None and m.curve.answer == "flat":
        yield "a curve that rises: collect data first"


def _is_behaviour_rare(m: Measurements) -> bool:
    return m.kinds is not None and m.kinds.behaviour is not None and m.kinds.behaviour < LEAST_BEHAVIOUR


def _addressed(gate: Gate, job: str) -> Gate:
    """The gate with the user's own job in its command."""
    return gate.model_copy(update={"command": gate.command.replace("job.toml", job)}) if job else gate


def _next(action: Action | None, gates: tuple[Gate, ...], job: str) -> str:
    """The command that goes on from here."""
    name = job or "job.toml"
    if action is None:
        return next(gate.command for gate in gates if gate.status == "unknown" and gate.name in NEEDED)
    if action.startswith("fine-tune"):
        return f"foretune run {name}"
    stopped = next((gate for gate in gates if gate.status == "stop" and gate.action == action), None)
    return stopped.command if stopped is not None and stopped.command else "foretune faq necessary"
