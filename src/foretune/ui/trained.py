"""What training did: predictions met or missed, parameters, and the loss curves."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foretune.records.training import TrainingRecord
from foretune.ui.charts import loss_chart, range_bar
from foretune.ui.run_folder import RunFolder
from foretune.ui.summary import Prediction
from foretune.ui.words import TRAINING_METHODS, plural
from foretune.units import show_bytes, show_count, show_seconds, show_usd

__all__ = ["CurvesView", "card_charts", "curves_view", "model_facts"]

BYTES_A_WEIGHT = 4  # of the artefact, which is written in fp32


def card_charts(predictions: Sequence[Prediction]) -> list[tuple[Prediction, Markup]]:
    """Each prediction with its small chart."""
    return [
        (
            item,
            range_bar(
                item.predicted.low, item.predicted.expected, item.predicted.high, item.actual, item.held, item.sentence
            ),
        )
        for item in predictions
    ]


def model_facts(run: RunFolder) -> tuple[str, str] | None:
    """Share of parameters that were trained, and what it is a share of."""
    source = run.training or run.plan
    if source is None:
        return None
    share = source.trainable_parameters / max(1, source.total_parameters)
    trained, total = show_count(source.trainable_parameters), show_count(source.total_parameters)
    method = TRAINING_METHODS.get(source.method, source.method)
    return f"{100 * share:.3g} %", f"{trained} of {total} parameters, {method}{_saved_in(run)}"


def _saved_in(run: RunFolder) -> str:
    """The size of what training leaves, predicted and actual: 4 bytes a trained weight, as plan counts them (R191)."""
    size = _artefact_bytes(run)
    predicted = show_bytes(BYTES_A_WEIGHT * run.plan.trainable_parameters) if run.plan else ""
    if not size:
        return f", will be saved in about {predicted}" if predicted else ""
    return f", saved in {show_bytes(size)}" + (f" (predicted {predicted})" if predicted else "")


def _artefact_bytes(run: RunFolder) -> int:
    if run.training is None or not run.training.artefact:
        return 0
    folder = run.path / run.training.artefact
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0


@dataclass(frozen=True)
class CurvesView:
    """The loss chart and what training did, as label and value."""

    chart: Markup
    has_validation: bool
    facts: tuple[tuple[str, str], ...]
    saved: str  # what early stopping saved


def curves_view(run: RunFolder) -> CurvesView | None:
    """The curves of a finished, broken or running training; None before the first step."""
    curves = run.curves
    if not curves.train:
        return None
    validation = [(float(point.step), point.loss) for point in curves.finite_validation]
    best = run.training.best_step if run.training else _lowest_step(validation)
    label = f"Training and validation loss over {plural(curves.last_step, 'step')}"
    if best is not None and validation:
        label += f"; validation loss is lowest at step {best}"
    train = [(float(point.step), point.loss) for point in curves.train]
    return CurvesView(
        chart=loss_chart(train, validation, best if validation else None, label),
        has_validation=bool(validation),
        facts=tuple(_training_facts(run)),
        saved=_saved(run.training) if run.training else "",
    )


def _lowest_step(validation: Sequence[tuple[float, float]]) -> int | None:
    return int(min(validation, key=lambda point: point[1])[0]) if validation else None


def _training_facts(run: RunFolder) -> list[tuple[str, str]]:
    record = run.training
    if record is None:
        facts = [("Steps so far", f"{run.curves.last_step:,} of {run.curves.planned_steps:,}")]
        bad = run.curves.first_bad_step
        return [*facts, ("Loss is not a number from", f"step {bad:,}")] if bad is not None else facts
    best = "" if record.best_eval_loss is None else f" (validation loss {record.best_eval_loss:.3f})"
    return [
        ("Steps", f"{record.num_steps:,} of {record.planned_steps:,}"),
        ("Epochs", f"{record.num_epochs:.3g}"),
        ("Ended because", record.stop_reason.replace("_", " ")),
        ("Best step", f"{record.best_step:,}{best}"),
        ("Last training loss", f"{record.final_train_loss:.3f}"),
        ("Tokens seen", f"{show_count(record.num_tokens)}, {show_count(record.num_loss_tokens)} with loss"),
        ("Speed", f"{show_count(record.tokens_per_second)} tokens a second"),
        ("Time in all", show_seconds(record.seconds)),
    ]


def _saved(record: TrainingRecord) -> str:
    left = record.planned_steps - record.num_steps
    if record.stop_reason != "early_stopping" or left <= 0 or not record.num_steps:
        return ""
    share = left / record.num_steps
    time, money = show_seconds(record.train_seconds * share), record.cost_usd * share
    cost = f" and {show_usd(money)}" if money else ""
    return f"Early stopping saved {plural(left, 'step')} of {record.planned_steps:,}, about {time}{cost}."
