"""`foretune plan --choices`: devices and providers ranked, what a budget buys, and the file that would start a row."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.cli.face import Answer
from foretune.cli.plan_again import Asked
from foretune.errors import ConfigError, NotFound
from foretune.records.base import write_atomically

if TYPE_CHECKING:
    from foretune.plan.launch import Launch, LaunchJob
    from foretune.plan.setup import Setup
    from foretune.records.forecast import Offer

__all__ = ["choices"]

AFFORDABLE = "affordable"
METHODS = ("lora", "qlora")


def choices(asked: Asked, goal: str, file: Path | None, launch_as: str, number: int) -> Answer:
    """The ranked offers of a request, or what `--max-cost` buys; row `number` is written to `file` if one is named."""
    if goal.lower() == AFFORDABLE:
        if file is not None:
            raise ConfigError(
                "--launch needs one model and goal", fix="--choices cheapest --base MODEL --launch task.yaml"
            )
        return _affordable(asked)
    return _ranked(asked, goal, file, launch_as, number)


def _ranked(asked: Asked, goal: str, file: Path | None, launch_as: str, number: int) -> Answer:
    from foretune.cli.plan_offers_shown import offers_shown
    from foretune.plan.answer import requested_setup
    from foretune.plan.choice import Limits, goal_named, hosted_by, offers

    wanted = goal_named(goal)
    setup, assumptions = requested_setup(asked.request, data=asked.samples)
    methods = (asked.request.method,) if asked.request.method else METHODS
    limits = Limits(asked.max_hours or None, asked.max_cost_usd or None)
    packs = asked.request.packing is not False
    found = offers(setup, goal=wanted, limits=limits, methods=methods, packs=packs)
    _, missing = hosted_by(setup, methods, packs=packs)
    if number > len(found):
        raise NotFound(f"no offer {number}: there are {len(found):,}", fix="--offer 1")
    made = [
        _launch(offer, asked, setup, launch_as if row == number else "auto", file) for row, offer in enumerate(found, 1)
    ]
    document: dict[str, Any] = {
        "command": "plan",
        "offers": [
            {"number": row, **offer.model_dump(mode="json"), "launch": one.text, "start": one.start}
            for row, (offer, one) in enumerate(zip(found, made, strict=True), 1)
        ],
        "unavailable": [one.model_dump() for one in missing],
        "assumptions": list(assumptions),
        "launch": made[number - 1].text,
    }
    shown = offers_shown(found, missing)
    if asked.html is not None:
        document["html"] = str(_page(asked.html, asked, found))
        shown = [*shown, "", f"Wrote {asked.html}"]
    if file is None:
        then = asked.again(choices=wanted, **_limits(asked), launch=_file_name(made[0]))
        return Answer(document, shown, next=then)
    write_atomically(file, made[number - 1].text)
    document["launch_file"] = str(file)
    words = f"Wrote {file}: {found[number - 1].title}, {found[number - 1].provider}; {made[number - 1].note}"
    return Answer(document, [*shown, "", words], next=made[number - 1].start)


def _page(path: Path, asked: Asked, found: list[Offer]) -> Path:
    """The page of the best rented row, with the ranked table."""
    from foretune.plan.whole import whole_plan
    from foretune.ui.plan_page import write_plan_page

    best = next((offer for offer in found if offer.kind == "rented"), None)
    request = asked.request if best is None else asked.request.model_copy(update=_as_offered(best))
    whole = whole_plan(request, data=asked.samples, project=asked.project, job=asked.job_file)
    if best is not None:
        billed = whole.forecast.model_copy(update={"cost_usd": best.cost_usd, "price": best.price})
        whole = whole._replace(forecast=billed)
    return write_plan_page(path, whole, found)


def _as_offered(offer: Offer) -> dict[str, Any]:
    """The fields of a request that make a forecast count as the ranking did."""
    spread = {} if offer.num_gpus == 1 else {"parallelism": "fsdp" if offer.method == "full" else "ddp"}
    return {
        "gpu": offer.device,
        "num_gpus": offer.num_gpus,
        "method": offer.method,
        "micro_batch_size": offer.micro_batch_size,
        **spread,
    }


def _limits(asked: Asked) -> dict[str, Any]:
    return {"max_cost": asked.max_cost_usd or None, "max_hours": asked.max_hours or None}


def _file_name(made: Launch) -> str:
    return {"request": "request.json", "script": "train.sh", "modal": "app.py"}.get(made.kind, "task.yaml")


def _launch(offer: Offer, asked: Asked, setup: Setup, kind: str, file: Path | None) -> Launch:
    from foretune.plan.launch import launch

    return launch(offer, _job(offer, asked, setup), kind, str(file or "task.yaml"))


def _job(offer: Offer, asked: Asked, setup: Setup) -> LaunchJob:
    """The job that a row would run: the job file, changed where the row or the flags say otherwise."""
    from foretune.plan.launch import LaunchJob

    base = _full_name(asked.given.base) if asked.given.base else None
    changed = {"base": base, "train.epochs": asked.given.epochs, "train.rank": asked.given.rank}
    settings = [f"{name}={value}" for name, value in changed.items() if value is not None]
    if offer.kind == "rented":
        settings += [f"train.method={offer.method}", f"train.advanced.micro_batch_size={offer.micro_batch_size}"]
    return LaunchJob(
        job=asked.job_file,
        settings=tuple(settings if asked.job is None or asked.given.model_fields_set else settings[-2:]),
        base=_full_name(setup.model),
        data=str(asked.samples or "train.jsonl"),
        method=offer.method if setup.objective == "sft" else setup.objective,
        epochs=setup.epochs or 1.0,
        rank=setup.rank,
        max_seq_len=setup.max_seq_len,
        packing=setup.packing or asked.request.packing is None,
        disk_gb=(offer.peak_memory_gb.expected if offer.peak_memory_gb else 0.0) + setup.shape.parameters * 2 / 1e9,
    )


def _full_name(base: str) -> str:
    """The hub id of a model of the catalogue, else the name as it is."""
    from foretune.models.catalogue import find_model

    model = find_model(base)
    return base if model is None or Path(base).is_dir() else model.id


def _affordable(asked: Asked) -> Answer:
    from foretune.cli.plan_offers_shown import affordable_shown
    from foretune.plan.affordable import USUAL, affordable

    if not asked.max_cost_usd:
        raise ConfigError("--choices affordable asks what a budget buys", fix="--choices affordable --max-cost 50")
    rows, said = affordable(asked.max_cost_usd, asked.request, data=asked.samples, max_hours=asked.max_hours or None)
    document = {
        "command": "plan",
        "budget_usd": asked.max_cost_usd,
        "affordable": [{**row._asdict(), "offer": row.offer.model_dump(mode="json")} for row in rows],
        "assumptions": list(said),
    }
    largest, given = rows[0], asked.request.model_dump()
    usual = {name: value for name, value in USUAL.items() if given[name] is None and asked.samples is None}
    changed = dataclasses.replace(asked, job=None, data=asked.samples)
    then = changed.again(**usual, base=largest.base, method=largest.method, choices="cheapest", **_limits(asked))
    return Answer(document, affordable_shown(rows, asked.max_cost_usd, said), next=then)
