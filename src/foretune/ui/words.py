"""Metrics, systems and numbers in the words of the report."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

from foretune.diagnose import is_lower_better
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SystemResult
from foretune.units import show_bytes, show_seconds, show_usd

__all__ = [
    "Measure",
    "metric_name",
    "plural",
    "show_number",
    "show_p_value",
    "show_quantity",
    "show_span",
    "system_name",
]

METRICS = {
    "bits_per_byte": "bits per byte",
    "bleu": "BLEU",
    "chrf": "chrF",
    "contains": "answers that contain the target",
    "exact_match": "exact match",
    "exact_match_normalised": "exact match, normalised",
    "field_f1": "JSON field F1",
    "json_match": "JSON match",
    "json_valid": "valid JSON",
    "json_valid_unfenced": "valid JSON, code fence off",
    "length_chars": "length in characters",
    "macro_f1": "macro F1",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "schema_valid": "valid by the schema",
    "token_f1": "token F1",
}
SYSTEMS = {
    "base_zero_shot": "Base model, no examples",
    "base_few_shot": "Base model, best prompt",
    "constant": "No model, always one answer",
    "fine_tuned": "Fine-tuned",
}
TRAINING_METHODS = {
    "lora": "LoRA",
    "full": "full fine-tuning",
    "prompt": "soft prompt",
    "prefix": "learned prefix",
    "classify": "classification head",
    "regress": "head for a number",
    "dpo": "preference pairs (DPO)",
    "orpo": "preference pairs (ORPO)",
    "kto": "judged answers (KTO)",
    "pretrain": "pretraining",
}
QUANTITIES = {
    "train_seconds": "Training time",
    "total_seconds": "All in all",
    "peak_memory_gb": "Peak memory",
    "cost_usd": "Cost",
}


def metric_name(metric: str) -> str:
    """A metric as it is written in a sentence: `exact_match` -> `exact match`, `my.scorers:tone` -> `tone`."""
    return METRICS.get(metric, metric.rpartition(":")[2].replace("_", " "))


def system_name(system: SystemResult) -> str:
    """A system in the words of the report: `Base model, best prompt`."""
    return SYSTEMS.get(system.name, system.name.replace("_", " ").capitalize())


def plural(count: int, noun: str) -> str:
    """`1 example`, `1,200 examples`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def signed(text: str) -> str:
    """A number's text with a real minus sign."""
    return text.replace("-", "−")


class Measure:
    """How one metric of an evaluation is written: per cent and points where it is a fraction, else as it is."""

    def __init__(self, metric: str, evaluation: EvaluationRecord) -> None:
        values = [system.metrics[metric] for system in evaluation.systems if metric in system.metrics]
        self.metric = metric
        self.name = metric_name(metric)
        self.is_lower_better = is_lower_better(metric)
        self.is_fraction = not self.is_lower_better and all(
            0 <= value.value <= 1 and value.ci_high <= 1.0001 for value in values
        )
        primary = metric == evaluation.primary_metric
        fine = primary and (evaluation.n >= 1000 or 0 < abs(evaluation.delta.value) < 0.02)
        self._digits = 1 if fine else 0

    def value(self, value: float) -> str:
        """`84 %`, or `12.3` for what is no fraction."""
        return f"{100 * value:.{self._digits}f} %" if self.is_fraction else show_number(value)

    def interval(self, metric: MetricValue) -> str:
        """`78 to 89 %`."""
        return self.span(metric.ci_low, metric.ci_high)

    def span(self, low: float, high: float) -> str:
        """`78 to 89 %`."""
        if not self.is_fraction:
            return f"{show_number(low)} to {show_number(high)}"
        return f"{100 * low:.{self._digits}f} to {100 * high:.{self._digits}f} %"

    def change(self, value: float) -> str:
        """`+53 points`, `−0.41`; one point is a hundredth."""
        if not self.is_fraction:
            return signed(f"{value:+.3g}")
        points = f"{100 * value:+.{self._digits}f}"
        return signed(f"{points} point{'' if points in ('+1', '-1') else 's'}")

    def change_interval(self, delta: Delta) -> str:
        """`+42 to +63`."""
        if not self.is_fraction:
            return signed(f"{delta.ci_low:+.3g} to {delta.ci_high:+.3g}")
        return signed(f"{100 * delta.ci_low:+.{self._digits}f} to {100 * delta.ci_high:+.{self._digits}f}")


def show_number(value: float) -> str:
    """Three significant digits, whole numbers whole: `0.312`, `12.3`, `1,204`."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show_p_value(p_value: float) -> str:
    """`p < 0.001`, `p = 0.03`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def show_quantity(quantity: str, value: float) -> str:
    """A predicted or measured quantity with its unit, by the unit in its name: `66 s`, `1.05 GB`, `$0.0036`."""
    if quantity.endswith("_seconds"):
        return f"{value:.0f} s" if 10 <= value < 120 else show_seconds(value)
    if quantity.endswith("_gb"):
        return f"{value:.2f} GB" if 0.1 <= value < 10 else show_bytes(value * 1e9)
    return show_usd(value) if quantity.endswith("_usd") else show_number(value)


def show_span(quantity: str, low: float, high: float) -> str:
    """A range with its unit written once where both ends have the same: `58–71 s`."""
    first, last = show_quantity(quantity, low), show_quantity(quantity, high)
    number, _, unit = first.partition(" ")
    if first == last:
        return first
    if unit and last.partition(" ")[2] == unit:
        return f"{number}–{last}"
    return f"{first}–{last}" if not unit else f"{first} to {last}"
