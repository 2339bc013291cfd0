"""Is it worth it: training, labour, labels and hosting against today's prompt bill, and what would flip the verdict."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from foretune.errors import ConfigError, GateRefused
from foretune.plan.annotation import annotation_cost, find_annotation_price
from foretune.plan.cost import payback_months
from foretune.records.plan import Estimate
from foretune.units import show_usd

__all__ = [
    "LARGE_USD",
    "CostBenefit",
    "HostingChoice",
    "MoneyCase",
    "Swing",
    "budget_warning",
    "cost_benefit",
    "hosting_choice",
    "pretraining_share",
    "query_usd",
    "require_budget",
    "saving_fraction",
    "tuned_price_range",
]

HOURS_PER_MONTH = 730.0  # 365 x 24 / 12
DAYS_PER_MONTH = 365.25 / 12
LIFE_MONTHS = 12.0
SENIOR_HOURS = 30.0  # the middle of the brief's 20 to 40
SWING = 0.5  # each input is tried at half and at one and a half times its value
SMALL_USD, LARGE_USD = 1.0, 10_000.0  # a plan outside is probably mistaken in its inputs
LARGEST = 1e15  # no amount of a real plan is above; sums stay finite
PRETRAINING_USD = 2e6  # the brief's reference: 6,000 GPUs for 12 days
BRIEF_MULTIPLIER = (1.5, 8.0)  # what a hosted tuned model costs against its base, per the brief
NOT_SWUNG = ("cached_share", "cached_price_factor", "discount_per_year")


@dataclass(frozen=True)
class MoneyCase:
    """Everything that decides whether tuning pays. Dollars; tokens are per query; `discount_per_year` is a fraction.

    Today: a prompt of `prompt_tokens`, of which `cached_share` is billed at `cached_price_factor`, or plainly
    `usd_per_query`. Tuned: prices per million tokens and, or, `hosting_usd_per_hour` for a machine that waits
    `hosting_hours_per_month`; or plainly `tuned_usd_per_query`. Labels cost `annotation_usd_per_item`, or the middle of
    the dated price range of `annotation_kind`, for each of `num_annotators`. Raises ConfigError with every field that
    is not 0 or more, NotFound for an unknown kind of annotation.
    """

    queries_per_month: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    usd_per_1m_input: float = 0.0
    usd_per_1m_output: float = 0.0
    cached_share: float = 0.0
    cached_price_factor: float = 0.5
    usd_per_query: float | None = None
    tuned_prompt_tokens: float = 0.0
    tuned_output_tokens: float = 0.0
    tuned_usd_per_1m_input: float = 0.0
    tuned_usd_per_1m_output: float = 0.0
    tuned_usd_per_query: float | None = None
    hosting_usd_per_hour: float = 0.0
    hosting_hours_per_month: float = HOURS_PER_MONTH
    training_usd: float = 0.0
    num_trainings: float = 1.0
    labour_hours: float = SENIOR_HOURS
    labour_usd_per_hour: float = 0.0
    annotation_items: float = 0.0
    annotation_usd_per_item: float = 0.0
    annotation_kind: str = ""
    num_annotators: float = 1.0
    storage_gb: float = 0.0
    storage_usd_per_gb_month: float = 0.0
    upkeep_usd_per_month: float = 0.0
    life_months: float = LIFE_MONTHS
    discount_per_year: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            f"`{field.name}` is {value}"
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), int | float) and not 0 <= value <= LARGEST
        ]
        wrong += [
            f"`{name}` is {getattr(self, name)}, expected a share from 0 to 1"
            for name in ("cached_share", "cached_price_factor")
            if getattr(self, name) > 1
        ]
        if wrong:
            raise ConfigError(
                f"{'; '.join(wrong)}; expected from 0 to {LARGEST:g}", fix="give the amounts as plain numbers"
            )
        if self.annotation_kind:
            find_annotation_price(self.annotation_kind)

    @property
    def usd_per_query_now(self) -> float:
        """Dollars of a query today."""
        if self.usd_per_query is not None:
            return self.usd_per_query
        return query_usd(
            self.prompt_tokens,
            self.output_tokens,
            self.usd_per_1m_input,
            self.usd_per_1m_output,
            self.cached_share,
            self.cached_price_factor,
        )

    @property
    def usd_per_query_tuned(self) -> float:
        """Dollars of a query to the tuned model, without the machine that waits for it."""
        if self.tuned_usd_per_query is not None:
            return self.tuned_usd_per_query
        prompt = self.tuned_prompt_tokens or self.prompt_tokens
        output = self.tuned_output_tokens or self.output_tokens
        return query_usd(prompt, output, self.tuned_usd_per_1m_input, self.tuned_usd_per_1m_output)

    @property
    def monthly_now(self) -> float:
        """Dollars a month today."""
        return self.usd_per_query_now * self.queries_per_month

    @property
    def monthly_tuned(self) -> float:
        """Dollars a month with the tuned model: queries, machine, storage and upkeep."""
        machine = self.hosting_usd_per_hour * self.hosting_hours_per_month
        kept = self.storage_gb * self.storage_usd_per_gb_month
        return self.usd_per_query_tuned * self.queries_per_month + machine + kept + self.upkeep_usd_per_month

    @property
    def spent_on_training(self) -> float:
        """Dollars of all training runs, tries included."""
        return self.training_usd * self.num_trainings

    @property
    def spent_on_people(self) -> float:
        """Dollars of labour and labels."""
        return self.labour_hours * self.labour_usd_per_hour + self.labels.expected

    @property
    def labels(self) -> Estimate:
        """Dollars of labels: your price for an item, or the range of the kind of annotation."""
        price = find_annotation_price(self.annotation_kind) if self.annotation_kind else None
        usual = price if price is not None and not self.annotation_usd_per_item else self.annotation_usd_per_item
        one = annotation_cost(1, usual)
        count = self.annotation_items * self.num_annotators
        return Estimate(low=one.low * count, expected=one.expected * count, high=one.high * count)


class Swing(NamedTuple):
    """Net value with one input at half and at one and a half times its value, and whether that flips the verdict."""

    name: str
    net_at_half: float
    net_at_more: float
    flips: bool


class HostingChoice(NamedTuple):
    """A machine of your own against a price per query: dollars a month, the cheaper one, the traffic to switch at."""

    per_hour_usd: float
    per_query_usd: float
    cheaper: str
    break_even_queries: float


@dataclass(frozen=True)
class CostBenefit:
    """The answer to "is it worth it": dollars a month, paybacks in months (infinite without a saving), net value."""

    monthly_now: float
    monthly_tuned: float
    monthly_saving: float
    saving_fraction: float
    spent_on_training: float
    spent_on_people: float
    payback_training_only: float
    payback_with_labour: float
    net_value: float
    break_even_date: datetime.date | None
    is_worth_it: bool
    verdict: str
    sensitivity: tuple[Swing, ...]


def query_usd(
    prompt_tokens: float,
    output_tokens: float,
    usd_per_1m_input: float,
    usd_per_1m_output: float,
    cached_share: float = 0.0,
    cached_price_factor: float = 0.5,
) -> float:
    """Dollars of one query; the cached share of the prompt is billed at `cached_price_factor` of the input price."""
    billed = prompt_tokens * (1 - cached_share * (1 - cached_price_factor))
    return (billed * usd_per_1m_input + output_tokens * usd_per_1m_output) / 1e6


def tuned_price_range(base_usd: float, multiplier: tuple[float, float] = BRIEF_MULTIPLIER) -> tuple[float, float]:
    """Lowest and highest price of a tuned model's tokens at a provider that charges more for it than for the base."""
    return base_usd * multiplier[0], base_usd * multiplier[1]


def saving_fraction(usd_now: float, usd_then: float) -> float:
    """Share of today's bill that is saved; negative if it grows, 0 if there is no bill."""
    return 1 - usd_then / usd_now if usd_now > 0 else 0.0


def hosting_choice(
    usd_per_hour: float, usd_per_query: float, queries_per_month: float, hours_per_month: float = HOURS_PER_MONTH
) -> HostingChoice:
    """Whether a machine at a price per hour or a price per query is cheaper, and from which traffic the machine is."""
    machine = usd_per_hour * hours_per_month
    queries = usd_per_query * queries_per_month
    break_even = machine / usd_per_query if usd_per_query > 0 else math.inf
    return HostingChoice(machine, queries, "per hour" if machine < queries else "per query", break_even)


def cost_benefit(case: MoneyCase, today: datetime.date | None = None) -> CostBenefit:
    """Saving, both paybacks, net value over the model's life and what each input does to it."""
    saving = case.monthly_now - case.monthly_tuned
    net = _net_value(case)
    with_labour = payback_months(case.spent_on_training + case.spent_on_people, saving)
    return CostBenefit(
        monthly_now=case.monthly_now,
        monthly_tuned=case.monthly_tuned,
        monthly_saving=saving,
        saving_fraction=saving_fraction(case.monthly_now, case.monthly_tuned),
        spent_on_training=case.spent_on_training,
        spent_on_people=case.spent_on_people,
        payback_training_only=payback_months(case.spent_on_training, saving),
        payback_with_labour=with_labour,
        net_value=net,
        break_even_date=_date_after(with_labour, today or datetime.date.today()),
        is_worth_it=net > 0,
        verdict=_verdict(case, saving, net, with_labour),
        sensitivity=_sensitivity(case, net),
    )


def require_budget(cost: Estimate, max_cost_usd: float) -> None:
    """Raise GateRefused if the expected cost is above the limit, before anything is spent; 0 is no limit."""
    if max_cost_usd and cost.expected > max_cost_usd:
        raise GateRefused(
            f"expected cost {show_usd(cost.expected)} ({show_usd(cost.low)} to {show_usd(cost.high)}) is above "
            f"--max-cost {show_usd(max_cost_usd)}",
            fix=f"--max-cost {math.ceil(cost.high)}, fewer epochs or examples, or --choices cheapest",
        )


def budget_warning(cost: Estimate, max_cost_usd: float = 0.0) -> str:
    """A sentence where the high end breaks the limit, or the cost is so small or so large that an input looks wrong."""
    if max_cost_usd and cost.high > max_cost_usd:
        return f"may cost up to {show_usd(cost.high)}, above --max-cost {show_usd(max_cost_usd)}: it stops there"
    if 0 < cost.high < SMALL_USD:
        return f"below {show_usd(SMALL_USD)}: check the number of examples and the price"
    if cost.expected > LARGE_USD:
        return f"above {show_usd(LARGE_USD)}: very expensive; try LoRA or a smaller model first"
    return ""


def pretraining_share(fine_tuning_usd: float, pretraining_usd: float = PRETRAINING_USD) -> float:
    """What fine-tuning costs as a share of pretraining a base model; the brief's reference is $2 million."""
    if pretraining_usd <= 0:
        raise ConfigError(f"pretraining at {pretraining_usd} dollars, expected more than 0")
    return fine_tuning_usd / pretraining_usd


def _net_value(case: MoneyCase) -> float:
    """Savings over the life, each month discounted to today, less what is spent at the start."""
    saving = case.monthly_now - case.monthly_tuned
    rate = (1 + case.discount_per_year) ** (1 / 12) - 1
    months = (1 - (1 + rate) ** -case.life_months) / rate if rate else case.life_months
    return saving * months - case.spent_on_training - case.spent_on_people


def _date_after(months: float, today: datetime.date) -> datetime.date | None:
    """The day after so many months, None where it never comes or lies beyond the calendar."""
    days = months * DAYS_PER_MONTH
    if not math.isfinite(days) or days > (datetime.date.max - today).days:
        return None
    return today + datetime.timedelta(days=math.ceil(days))


def _verdict(case: MoneyCase, saving: float, net: float, months: float) -> str:
    life = f"{case.life_months:g} months"
    if saving <= 0:
        return f"not worth it: nothing is saved, the bill grows by {show_usd(-saving)} a month"
    word = "worth it" if net > 0 else "not worth it"
    unpriced = "" if case.labour_usd_per_hour else "; labour is not priced, give its rate"
    return (
        f"{word}: saves {show_usd(saving)} a month, pays back in {months:.2f} months with labour, "
        f"net {show_usd(net)} over {life}{unpriced}"
    )


def _sensitivity(case: MoneyCase, net: float) -> tuple[Swing, ...]:
    """Every input that changes the net value, the strongest first."""
    swings = []
    for field in fields(case):
        value = getattr(case, field.name)
        if not value or isinstance(value, str) or field.name in NOT_SWUNG:
            continue
        half = _net_value(replace(case, **{field.name: value * (1 - SWING)}))
        more = _net_value(replace(case, **{field.name: value * (1 + SWING)}))
        if half != more:
            swings.append(Swing(field.name, half, more, any((one > 0) != (net > 0) for one in (half, more))))
    return tuple(sorted(swings, key=lambda swing: -abs(swing.net_at_more - swing.net_at_half)))
