"""The cost of a project: training as it is billed, labels, labour, hosting, storage; and the pilot before it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.errors import ConfigError, NotFound
from foretune.plan.answer import answer
from foretune.plan.money import MoneyCase, cost_benefit
from foretune.plan.pilot import pilot_of
from foretune.plan.project import Project, outlook
from foretune.plan.project_cost import ProjectCost, project_cost
from foretune.plan.request import plan_request
from foretune.plan.timeline import TimelineInputs
from foretune.records.forecast import Forecast
from foretune.records.plan import Estimate


@pytest.fixture(scope="module")
def forecast() -> Forecast:
    return answer(plan_request(base="llama-2-7b", gpu="H100", num_examples=2000, tokens_per_example=300.0))


def line(cost: ProjectCost, name: str) -> Estimate:
    return next(one.usd for one in cost.lines if one.name == name)


def test_labels_follow_items_people_and_the_range_of_their_kind() -> None:
    cost = project_cost(MoneyCase(annotation_items=1000, annotation_kind="classification", num_annotators=2))
    labels = line(cost, "labels")
    assert (labels.low, labels.expected, labels.high) == pytest.approx((100, 200, 300))
    given = project_cost(
        MoneyCase(annotation_items=1000, annotation_kind="classification", annotation_usd_per_item=1.0)
    )
    assert line(given, "labels") == Estimate(low=1000, expected=1000, high=1000)
    assert MoneyCase(annotation_items=10, annotation_kind="reasoning").spent_on_people == pytest.approx(19)


def test_labour_is_a_range_until_its_hours_are_given() -> None:
    usual = line(project_cost(MoneyCase(labour_usd_per_hour=100)), "labour")
    assert (usual.low, usual.expected, usual.high) == (2000, 3000, 4000)
    known = line(project_cost(MoneyCase(labour_usd_per_hour=100, labour_hours=10)), "labour")
    assert (known.low, known.high) == (1000, 1000)


def test_training_is_counted_as_the_provider_bills_it(forecast: Forecast) -> None:
    assert forecast.cost_usd is not None
    training = line(project_cost(None, forecast), "training")
    assert training.low >= forecast.cost_usd.low and training.expected < 1.2 * forecast.cost_usd.expected
    three = line(project_cost(MoneyCase(num_trainings=3), forecast), "training")
    assert three.expected == pytest.approx(3 * training.expected)
    given = line(project_cost(MoneyCase(training_usd=40, num_trainings=2), forecast), "training")
    assert given.expected == 80


def test_hosting_storage_and_upkeep_come_every_month(forecast: Forecast) -> None:
    case = MoneyCase(hosting_usd_per_hour=0.5, upkeep_usd_per_month=10, storage_gb=100, storage_usd_per_gb_month=0.02)
    cost = project_cost(case, forecast)
    assert cost.per_month.expected == pytest.approx(0.5 * 730.5 + 10 + 2, rel=1e-3)
    assert cost.once.expected == pytest.approx(line(cost, "training").expected)


def test_what_has_no_price_is_said() -> None:
    assert [one.split(",")[0].split(":")[0] for one in project_cost().unpriced] == [
        "labour",
        "labels",
        "serving the result",
    ]
    priced = MoneyCase(labour_usd_per_hour=1, annotation_items=1, annotation_usd_per_item=1, tuned_usd_per_query=0.01)
    assert project_cost(priced).unpriced == ()


def test_an_unknown_kind_of_labels_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="classification, entities"):
        MoneyCase(annotation_kind="clasification")
    with pytest.raises(ConfigError, match="`annotation_items` is -1"):
        MoneyCase(annotation_items=-1)


def test_labels_are_among_what_may_flip_the_verdict() -> None:
    case = MoneyCase(
        usd_per_query=0.02,
        tuned_usd_per_query=0.01,
        queries_per_month=1000,
        annotation_items=1000,
        annotation_kind="entities",
    )
    assert "annotation_items" in {swing.name for swing in cost_benefit(case).sensitivity}


@pytest.mark.req("R085")
def test_a_pilot_comes_before_the_whole(forecast: Forecast) -> None:
    around = outlook(Project(), forecast, num_examples=2000, epochs=3.0, job="my.toml")
    pilot = around.pilot
    assert pilot is not None and forecast.train_hours and forecast.cost_usd and pilot.hours and pilot.cost_usd
    assert (pilot.num_examples, pilot.epochs) == (200, 1.0) and pilot.share == pytest.approx(200 / 6000)
    assert pilot.command == "foretune run my.toml --set data.max_rows=200 --set train.epochs=1"
    start = min(1 / 60, 0.1 * forecast.train_hours.expected)
    assert pilot.hours.expected == pytest.approx(forecast.train_hours.expected / 30 + start)
    assert pilot.cost_usd.expected < 0.2 * forecast.cost_usd.expected and len(pilot.go_on_if) == 3


@pytest.mark.parametrize(("examples", "wanted"), [(99, None), (100, 50), (1000, 100), (50_000, 500)])
def test_the_size_of_the_pilot(examples: int, wanted: int | None) -> None:
    pilot = pilot_of(examples, 3.0)
    assert (pilot and pilot.num_examples) == wanted


def test_nothing_is_piloted_that_does_not_fit() -> None:
    refused = answer(
        plan_request(base="llama-2-70b", method="full", gpu="T4", num_examples=2000, tokens_per_example=300.0)
    )
    assert refused.fits is False and outlook(Project(), refused, num_examples=2000).pilot is None


def test_examples_written_by_hand_are_those_of_the_job(forecast: Forecast) -> None:
    project = Project(timeline=TimelineInputs(curation="manual"))
    usual = outlook(project, forecast).timeline
    many = outlook(project, forecast, num_examples=3000).timeline
    assert many.total_days.expected > usual.total_days.expected and not any(
        "500 examples" in a for a in many.assumptions
    )
