"""Hosted providers beside rented devices, what a budget buys, and the file that each row would launch."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
import yaml

from foretune.errors import ConfigError, GateRefused
from foretune.plan.affordable import LADDER, affordable
from foretune.plan.answer import requested_setup
from foretune.plan.choice import Limits, hosted_by, is_stale, offers
from foretune.plan.hosted import hosted_job, hosted_offers, provider_status
from foretune.plan.launch import LAUNCH_KINDS, LaunchJob, launch, sky_task
from foretune.plan.providers import find_provider
from foretune.plan.request import plan_request
from foretune.plan.setup import Setup
from foretune.records.forecast import Offer
from foretune.records.plan import Estimate

TODAY = datetime.date(2026, 11, 21)
# Fields of SkyPilot's task and resources that we use, its clouds, and names of accelerators of its catalogue
# (skypilot 0.14, sky/utils/schemas.py and skylet/constants.py; skypilot-catalog v8, common/accelerators.csv).
TASK_FIELDS = {"name", "resources", "workdir", "setup", "run"}
RESOURCE_FIELDS = {"infra", "accelerators", "disk_size", "autostop"}
CLOUDS = {
    *("aws", "azure", "gcp", "lambda", "runpod", "vast", "paperspace", "do", "nebius", "verda", "kubernetes"),
}
ACCELERATORS = {
    *("A10", "A100", "A100-80GB", "A100-80GB-SXM", "A10G", "A40", "A4000", "A6000", "B200", "B300", "GB200", "GH200"),
    *("H100", "H100-NVL", "H100-SXM", "H200", "H200-SXM", "L4", "L40", "L40S", "MI300X", "RTX3060", "RTX3090"),
    *("RTX4000-Ada", "RTX4090", "RTX5090", "RTX6000", "RTX6000-Ada", "RTXA4000", "RTXA6000", "RTXPRO6000", "T4"),
    *("V100", "V100-32GB", "RTX3090Ti", "RTX4080"),
}


@pytest.fixture(scope="module")
def setup() -> Setup:
    """LoRA on Qwen3-8B, which a provider prices by name."""
    request = plan_request(base="Qwen/Qwen3-8B", num_examples=5000, tokens_per_example=400.0, method="lora")
    return requested_setup(request)[0]


@pytest.fixture(scope="module")
def found(setup: Setup) -> list[Offer]:
    return offers(setup, methods=("lora", "qlora"))


def offer(**changes: object) -> Offer:
    """One machine of eight H100 for about two hours."""
    hours = Estimate(low=1.0, expected=2.0, high=3.0)
    plain = {"device": "H100", "num_gpus": 8, "method": "lora", "precision": "bf16", "provider": "Lambda 8x"}
    rest = {"fits": True, "peak_memory_gb": hours, "train_hours": hours, "cost_usd": hours, "price": None}
    return Offer.model_validate({**plain, **rest, **changes})


def test_hosted_providers_stand_beside_devices_with_state_and_billing(found: list[Offer]) -> None:
    hosted = [one for one in found if one.kind == "hosted"]
    assert {"Together", "Fireworks", "Tinker", "Ori"} <= {one.provider for one in hosted}
    assert all(one.status and one.basis and one.peak_memory_gb is None and one.title == "hosted" for one in hosted)
    tinker = next(one for one in hosted if one.provider == "Tinker")
    assert tinker.storage_usd_per_month is not None and not tinker.warnings  # priced by the model's own name
    together = next(one for one in hosted if one.provider == "Together")
    assert together.hosting_usd_per_hour == 3.99 and any("priced by size" in text for text in together.warnings)
    rented = next(one for one in found if one.provider == "Lambda")
    assert "by started minutes" in rented.basis and rented.hosting_usd_per_hour


def test_the_chosen_row_is_recommended_firm_and_on_the_front(found: list[Offer]) -> None:
    chosen = [one for one in found if one.is_chosen]
    assert chosen == found[:1] and chosen[0].is_recommended and chosen[0].is_pareto and "cheapest" in chosen[0].reason
    front = [one for one in found if one.is_pareto]
    assert all(one.is_recommended and not is_stale(one) for one in front)
    for one in front:
        assert one.cost_usd and one.train_hours
        for other in front:
            assert other.cost_usd and other.train_hours
            assert not (
                other.cost_usd.expected < one.cost_usd.expected
                and other.train_hours.expected < one.train_hours.expected
            )


def test_who_cannot_be_recommended_is_shown_last(setup: Setup) -> None:
    found = offers(setup.changed(method="lora"), methods=("lora",))
    states = [one.is_recommended for one in found]
    assert states == sorted(states, reverse=True)
    unsure = [one for one in found if not one.is_recommended]
    assert all(one.warnings for one in unsure) and {"TPU v5e", "TPU v5p", "TPU v6e"} & {one.device for one in unsure}


def test_a_provider_without_an_offer_says_why(setup: Setup) -> None:
    _, missing = hosted_by(setup, ("lora",))
    reasons = {one.provider: one.reason for one in missing}
    assert reasons["Cohere"].startswith("closed since 2025-09-15") and "region" in reasons["Azure"]
    silent = setup.changed(num_examples=0, mean_tokens=0.0, tokens_total=0.0)
    assert hosted_job(silent) is None and "--tokens-per-example" in hosted_by(silent)[1][0].reason


def test_lora_and_qlora_are_one_offer_at_a_provider_and_full_another(setup: Setup) -> None:
    both, _ = hosted_by(setup, ("lora", "qlora"))
    three, _ = hosted_by(setup, ("lora", "qlora", "full"))
    assert len(both) == len({one.provider for one in both}) < len(three)
    assert {one.method for one in three} == {"lora", "full"}


def test_rows_that_are_not_packed_cost_more_where_padding_is_billed(setup: Setup) -> None:
    packed, _ = hosted_offers(setup, "lora", today=TODAY)
    padded, _ = hosted_offers(setup, "lora", packs=False, today=TODAY)
    cost = {
        name: [one.cost_usd.low for one in rows if one.provider == "Together" and one.cost_usd]
        for name, rows in (("packed", packed), ("padded", padded))
    }
    assert cost["padded"][0] > 2 * cost["packed"][0]


def test_a_closing_provider_names_its_day() -> None:
    assert provider_status(find_provider("OpenAI"), TODAY) == "closes 2027-01-06 (seen 2026-05-07)"
    assert provider_status(find_provider("OpenAI"), datetime.date(2027, 2, 1)).startswith("closed 2027-01-06")


@pytest.mark.req("R209")
def test_what_fifty_dollars_buy() -> None:
    rows, said = affordable(50.0, plan_request())
    assert {row.base for row in rows} == set(LADDER) and said[0].startswith("not given: num examples 1000")
    assert all(row.offer.cost_usd and row.offer.cost_usd.high <= 50 for row in rows)
    assert [row.parameters for row in rows] == sorted((row.parameters for row in rows), reverse=True)
    large = [row for row in rows if row.base == LADDER[-1] and row.offer.cost_usd]
    costs = sorted(row.offer.cost_usd.high for row in large if row.offer.cost_usd)
    less, _ = affordable((costs[0] + costs[-1]) / 2, plan_request(base=LADDER[-1]))
    assert {row.method for row in less} < {row.method for row in large}
    small = next(row for row in rows if row.base == LADDER[0] and row.method == "lora")
    assert small.examples > 1000 and small.tries >= 1


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected more than 0"):
        affordable(0.0, plan_request())
    with pytest.raises(ConfigError):
        affordable(float("nan"), plan_request())
    with pytest.raises(GateRefused, match="within"):
        affordable(0.0001, plan_request(base="llama-2-7b"))


def test_limits_name_the_nearest_by_any_kind(setup: Setup) -> None:
    with pytest.raises(GateRefused, match=r"quickest may take \d+ min"):
        offers(setup, limits=Limits(max_hours=0.0001), methods=("lora",))


@pytest.mark.req("R331", "R333")
def test_every_rented_row_launches_something_that_its_reader_takes(found: list[Offer]) -> None:
    for one in found:
        made = launch(one, LaunchJob(settings=("train.method=lora", "base=a b")), file="out")
        if made.kind == "sky":
            task = yaml.safe_load(made.text)
            assert set(task) == TASK_FIELDS and set(task["resources"]) <= RESOURCE_FIELDS, made.text
            assert task["resources"]["infra"] in CLOUDS and made.start == "sky launch out"
            name, _, number = task["resources"]["accelerators"].partition(":")
            assert name in ACCELERATORS and int(number) == one.num_gpus, name
            assert "--set 'base=a b'" in task["run"]
        elif made.kind == "modal":
            compile(made.text, "app.py", "exec")
        elif made.kind == "request":
            assert json.loads(made.text)["provider"] == one.provider
        else:
            assert made.kind == "script" and made.text.startswith("#!/usr/bin/env bash")
        assert "not sent" in made.text or one.kind == "rented" or "POST" not in made.text


def test_a_cloud_that_skypilot_does_not_know_is_said() -> None:
    assert "not one of SkyPilot's clouds" in sky_task(offer(provider="Akash"))
    assert launch(offer(provider="Akash")).kind == "script"


def test_several_devices_are_several_processes() -> None:
    many, job = offer(num_gpus=4), LaunchJob(job="job.toml", settings=("train.epochs=2",))
    for made in (launch(many, job, "sky"), launch(many, job, "script")):
        assert (
            "foretune train job.toml -y --nproc 4 --set train.advanced.parallel=fsdp --set train.epochs=2" in made.text
        )
        assert "foretune evaluate latest" in made.text and "a process for each device" in made.note
    packed = launch(many, LaunchJob(settings=("train.method=qlora",)), "sky").text
    assert "--nproc 4" in packed and "fsdp" not in packed
    assert "foretune run job.toml -y\n" in launch(offer(num_gpus=1), LaunchJob(), "sky").text


def test_requests_have_the_fields_of_the_providers() -> None:
    job = LaunchJob(base="Qwen/Qwen3-8B", epochs=2.6, rank=8, max_seq_len=4096)
    hosted = {"kind": "hosted", "device": "", "num_gpus": 0, "peak_memory_gb": None}
    together = json.loads(launch(offer(provider="Together", **hosted), job).text)["body"]
    assert together["n_epochs"] == 3 and together["training_type"]["lora_r"] == 8 and together["packing"] is True
    fireworks = json.loads(launch(offer(provider="Fireworks", **hosted), job).text)
    assert fireworks["body"]["loraRank"] == 8 and fireworks["url"].endswith("/supervisedFineTuningJobs")
    full = json.loads(launch(offer(provider="Together", **hosted), LaunchJob(method="full")).text)["body"]
    assert full["training_type"] == {"type": "Full"}
    openai = json.loads(launch(offer(provider="OpenAI", **hosted), job).text)["body"]
    assert openai["method"]["supervised"]["hyperparameters"]["n_epochs"] == 3
    assert "not documented" in launch(offer(provider="Ori", **hosted), job).text


@pytest.mark.req("R211")
def test_a_colab_notebook() -> None:
    made = launch(offer(device="T4", num_gpus=1), LaunchJob(job="my job.toml"), "colab")
    notebook = json.loads(made.text)
    assert notebook["nbformat"] == 4 and notebook["metadata"]["colab"]["gpuType"] == "T4" and not made.note
    sources = [cell["source"] for cell in notebook["cells"]]
    assert "!foretune run 'my job.toml' -y" in sources and all(cell["id"] for cell in notebook["cells"])
    assert "no 8 x H100" in launch(offer(), None, "colab").note


@pytest.mark.req("R213")
def test_jobs_of_managed_services() -> None:
    sagemaker = json.loads(launch(offer(), None, "sagemaker").text)
    assert sagemaker["ResourceConfig"]["InstanceType"] == "ml.p5.48xlarge"
    assert sagemaker["StoppingCondition"]["MaxRuntimeInSeconds"] == 6 * 3600  # twice the slow end
    vertex = json.loads(launch(offer(), None, "vertex").text)["workerPoolSpecs"][0]["machineSpec"]
    assert vertex == {"machineType": "a3-highgpu-8g", "acceleratorType": "NVIDIA_H100_80GB", "acceleratorCount": 8}
    azure = yaml.safe_load(launch(offer(), None, "azureml").text)
    assert azure["type"] == "command" and azure["resources"]["instance_type"] == "Standard_ND96isr_H100_v5"
    with pytest.raises(ConfigError, match="no machine with 3 x H100"):
        launch(offer(num_gpus=3), None, "vertex")
    with pytest.raises(ConfigError, match=", ".join(LAUNCH_KINDS)):
        launch(offer(), None, "k8s")


def test_your_own_hosted_price_makes_an_offer(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = tmp_path / "foretune" / "prices.toml"
    book.parent.mkdir()
    book.write_text('[[hosted]]\nprovider = "House"\nusd_per_1m_tokens = 0.01\ndate = 2026-11-20\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    house = next(one for one in hosted_by(setup, ("lora",))[0] if one.provider == "House")
    assert house.status == "yours" and house.cost_usd and house.cost_usd.expected == pytest.approx(0.06)
