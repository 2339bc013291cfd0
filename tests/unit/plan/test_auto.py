"""A job for one's own rows: what the rows call for, what their number and the base do, and what the machine holds."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretune.config import JobConfig, read_job
from foretune.config.derive import LEARNING_RATES, suggest_batch_size, suggest_epochs, suggest_learning_rate
from foretune.errors import ConfigError, DataError, NotFound
from foretune.hardware import Machine
from foretune.models.catalogue import find_model
from foretune.plan.auto import AutoJob, Draft, auto_job, draft_job, known_base, own_folder, rough_lengths
from foretune.plan.auto_fit import fitted
from foretune.plan.lengths import Lengths
from foretune.plan.own_data import OwnData, own_data
from foretune.plan.plan import plan
from foretune.units import GB

from .conftest import gpu_machine, lengths_of, llama

Values = dict[str, Any]
pytestmark = pytest.mark.req("R260")


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(number: int, **more: Any) -> Values:
    return {"prompt": f"what is {number} and {number * 7}?", "completion": f"that is {number * 8}, I think", **more}


def values(own: OwnData | AutoJob) -> Values:
    return {choice.name: choice.value for choice in own.choices}


# --- what the rows call for -----------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[int], Any], str]] = {
    "pairs": (pair, "lora"),
    "preference": (lambda n: {"prompt": f"ask {n}", "chosen": f"yes {n}", "rejected": "no"}, "dpo"),
    "kto": (lambda n: {"prompt": f"ask {n}", "completion": f"yes {n}", "label": n % 3 == 0}, "kto"),
    "text": (lambda n: {"text": f"once upon a time number {n} went out"}, "pretrain"),
    "classes": (lambda n: {"text": f"thing number {n}", "label": ("cat", "dog")[n % 2]}, "classify"),
    "words": (lambda n: {"prompt": f"thing number {n}", "completion": ("cat", "dog")[n % 2]}, "classify"),
    "numbers": (lambda n: {"text": f"thing number {n}", "label": str(n / 8)}, "regress"),
    "rare labels": (lambda n: {"text": f"thing number {n}", "label": f"the case of {n}"}, "lora"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_method_follows_from_what_the_rows_are(kind: str, tmp_path: Path) -> None:
    row, method = KINDS[kind]
    own = own_data(write(tmp_path / "rows.jsonl", map(row, range(40))))
    assert values(own)["train.method"] == method and own.num_rows == 40
    assert JobConfig.model_validate({"train": {"method": method}})
    task = {"classes": "classify", "words": "classify", "numbers": "chat", "rare labels": "chat"}.get(kind)
    assert values(own).get("data.task") == task
    assert all(choice.reason and "\n" not in choice.reason for choice in own.choices)


def test_classes_are_learned_as_the_template_does(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", map(KINDS["classes"][0], range(40)))
    found = values(own_data(path))
    template = read_job(Path(__file__).parents[3] / "src/foretune/config/templates/sentiment.toml")
    assert found["evaluate.advanced.batch_size"] == template.evaluate.advanced.batch_size
    assert (found["train.method"], found["data.task"]) == (template.train.method, template.data.task)
    assert suggest_learning_rate("classify", 3_000_000) == template.train.learning_rate
    assert values(own_data(path, is_encoder_decoder=True))["train.method"] == "lora"


def test_one_class_alone_cannot_be_learned(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ({"text": f"thing {n}", "label": "cat"} for n in range(20)))
    with pytest.raises(DataError, match="at least 2 classes"):
        own_data(path)


def test_dated_rows_are_split_by_time(tmp_path: Path) -> None:
    rows = [pair(n, created_at=f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}") for n in range(100)]
    own = own_data(write(tmp_path / "rows.jsonl", rows))
    assert values(own)["data.time_field"] == "created_at" and "2026-01-01 to 2026-04-16" in own.choices[-1].reason
    rows[50].pop("created_at")
    assert "data.time_field" not in values(own_data(write(tmp_path / "rows.jsonl", rows)))


@pytest.mark.parametrize("value", [lambda n: n % 90, lambda n: "2026-05-01"], ids=["durations", "one day"])
def test_fields_that_date_nothing_are_left_alone_and_said(value: Callable[[int], Any], tmp_path: Path) -> None:
    own = own_data(write(tmp_path / "rows.jsonl", (pair(n, time=value(n)) for n in range(100))))
    assert "data.time_field" not in values(own)
    assert len(own.notes) == 1 and "`time`" in own.notes[0]


def test_rows_of_one_user_stay_together(tmp_path: Path) -> None:
    rows = [pair(n, userId=f"u{n % 20}", thread=n % 50, id=n) for n in range(100)]
    own = own_data(write(tmp_path / "rows.jsonl", rows))
    assert values(own)["data.group_field"] == "userId"  # the wider one: it keeps threads together too
    one = own_data(write(tmp_path / "rows.jsonl", (row | {"userId": f"u{row['id']}"} for row in rows)))
    assert values(one)["data.group_field"] == "thread"  # a user a row groups nothing


@pytest.mark.parametrize("users", [4, 1])
def test_too_few_groups_to_fill_the_splits_are_said(users: int, tmp_path: Path) -> None:
    own = own_data(write(tmp_path / "rows.jsonl", (pair(n, user_id=n % users) for n in range(100))))
    assert "data.group_field" not in values(own) and "not grouped by `user_id`" in own.notes[0]


def test_groups_that_come_again_do_not_empty_a_split_by_time(tmp_path: Path) -> None:
    day = "2026-{:02d}-{:02d}".format
    rows = [pair(n, date=day(1 + n // 28, 1 + n % 28), user=f"u{n % 12 if n >= 40 else -n}") for n in range(100)]
    own = own_data(write(tmp_path / "rows.jsonl", rows))
    assert values(own)["data.time_field"] == "date" and "data.group_field" not in values(own)
    assert "come again later" in own.notes[0]
    blocks = [row | {"user": f"u{n // 5}"} for n, row in enumerate(rows)]
    assert values(own_data(write(tmp_path / "rows.jsonl", blocks)))["data.group_field"] == "user"


def test_a_folder_that_names_its_splits_keeps_them(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("test", 100)):
        write(tmp_path / f"{name}.jsonl", (pair(first + n, date=f"2026-01-{1 + n % 28:02d}") for n in range(60)))
    own = own_data(tmp_path)
    assert "data.time_field" not in values(own) and "names its own test files" in own.notes[0]


# --- numbers --------------------------------------------------------------------------------------------------------


def test_batch_grows_with_the_data_within_the_usual() -> None:
    sizes = [suggest_batch_size(num) for num in (1, 100, 8_000, 15_999, 16_000, 31_999, 32_000, 10**7)]
    assert sizes == [16, 16, 16, 16, 32, 32, 64, 64]


def test_rate_is_the_methods_own_but_for_small_bases_and_going_on_with_pretraining() -> None:
    assert suggest_learning_rate("lora", 8_000_000_000) == suggest_learning_rate("lora", 0) == LEARNING_RATES["lora"]
    assert suggest_learning_rate("lora", 3_000_000) == 3e-3
    assert suggest_learning_rate("dpo", 3_000_000) == LEARNING_RATES["dpo"]
    assert suggest_learning_rate("pretrain", 600_000_000) < suggest_learning_rate("pretrain", 3_000_000)


def test_a_small_base_takes_the_most_passes_that_are_usual() -> None:
    assert [suggest_epochs(num, 3_000_000) for num in (499, 500, 1_000, 1_001, 10_000, 50_000)] == [5, 5, 5, 3, 2, 1]
    assert [suggest_epochs(num, 80_000_000) for num in (499, 500, 1_000, 1_001)] == [5, 4, 4, 3]


# --- the job --------------------------------------------------------------------------------------------------------


def drafted(tmp_path: Path, base: str = "pebble", num: int = 60, kind: str = "pairs") -> Draft:
    path = write(tmp_path / "rows.jsonl", map(KINDS[kind][0], range(num)))
    return draft_job(str(path), path, known_base(base), tmp_path / "out")


def chosen(tmp_path: Path, lengths: Lengths, machine: Machine, base: str = "pebble", kind: str = "pairs") -> AutoJob:
    return auto_job(drafted(tmp_path, base, kind=kind), lengths, metric="rouge_l", machine=machine)


@pytest.mark.parametrize(("num", "epochs", "batch"), [(80, 5, 16), (800, 5, 16), (9_000, 3, 16), (20_000, 2, 32)])
def test_epochs_and_batch_follow_from_the_training_rows(
    num: int, epochs: float, batch: int, tmp_path: Path, machine: Machine
) -> None:
    found = values(chosen(tmp_path, lengths_of(num), machine))
    assert (found["train.epochs"], found["train.global_batch_size"]) == (epochs, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_reads_back_with_a_reason_behind_every_choice(kind: str, tmp_path: Path, machine: Machine) -> None:
    auto = chosen(tmp_path, lengths_of(), machine, kind=kind)
    file = tmp_path / "out" / "job.toml"
    file.parent.mkdir()
    file.write_text(auto.text)
    assert read_job(file) == auto.job
    lines = auto.text.splitlines()
    for choice in auto.choices:
        name = choice.name.rpartition(".")[2]
        is_written = any(line.startswith(f"{name} = ") and choice.reason in line for line in lines)
        assert is_written is (name != "primary_metric"), choice
    assert (file.parent / auto.job.data.path).resolve() == tmp_path / "rows.jsonl"


def test_names_from_the_data_cannot_break_the_file(tmp_path: Path, machine: Machine) -> None:
    folder = tmp_path / "a\x07\nb"
    folder.mkdir()
    rows = [pair(n, **{"user\x01_\nid": n % 20}) for n in range(60)]
    path = write(folder / 'r"o#ws.jsonl', rows)
    draft = draft_job(str(path), path, known_base("pebble"), folder)
    auto = auto_job(draft, lengths_of(), metric="rouge_l", machine=machine)
    (folder / "job.toml").write_text(auto.text)
    assert read_job(folder / "job.toml") == auto.job and auto.job.data.group_field == "user\x01_\nid"
    assert auto.job.name == "r-o-ws"


def test_a_rank_wider_than_a_tiny_layer_is_narrowed(tmp_path: Path, machine: Machine) -> None:
    draft = drafted(tmp_path)
    tiny = replace(draft, base=replace(draft.base, config=llama(width=32, layers=2, ffn=8, vocab=300)))
    assert values(auto_job(tiny, lengths_of(), metric="rouge_l", machine=machine))["train.rank"] == 8


def test_too_few_rows_are_said(tmp_path: Path, machine: Machine) -> None:
    few = auto_job(drafted(tmp_path, num=49), lengths_of(40), metric="rouge_l", machine=machine)
    assert few.warnings[0].startswith("49 rows are too little")
    assert not auto_job(drafted(tmp_path, num=50), lengths_of(40), metric="rouge_l", machine=machine).warnings


# --- the machine ----------------------------------------------------------------------------------------------------

QWEN, LLAMA_8B = "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B"
JOB = JobConfig.model_validate({"base": QWEN, "train": {"global_batch_size": 16}})


def config_of(name: str) -> Values:
    model = find_model(name)
    assert model is not None
    return model.config


def free(machine: Machine, gb: float) -> Machine:
    return replace(machine, available_memory_bytes=round(gb * GB))


def test_lora_first_then_smaller_passes_then_four_bits(machine: Machine) -> None:
    config, lengths = config_of(QWEN), lengths_of(100, 400)
    job = JobConfig.model_validate({"base": QWEN, "train": {"advanced": {"recompute": "never"}}})
    whole = plan(job, base_config=config, lengths=lengths, machine=free(machine, 64)).peak_memory_gb.high
    found = {gb: fitted(job, config, lengths, free(machine, gb)) for gb in (whole + 2, whole - 1, 6, 0.5)}
    names = {gb: [choice.name.rpartition(".")[2] for choice in fit.choices] for gb, fit in found.items()}
    assert list(names.values()) == [[], ["micro_batch_size"], ["quantise_base", "micro_batch_size"], []]
    assert [fit.fits for fit in found.values()] == [True, True, True, False]


def test_what_is_chosen_is_the_plan_of_the_job_that_is_written(machine: Machine) -> None:
    config, lengths = config_of(QWEN), lengths_of(100, 400)
    fit = fitted(JOB, config, lengths, free(machine, 3.5))
    advanced = {choice.name.rpartition(".")[2]: choice.value for choice in fit.choices}
    job = JobConfig.model_validate({"base": QWEN, "train": {"global_batch_size": 16, "advanced": advanced}})
    assert plan(job, base_config=config, lengths=lengths, machine=free(machine, 3.5)) == fit.plan
    larger = {**advanced, "micro_batch_size": 2 * advanced["micro_batch_size"]}
    job = JobConfig.model_validate({"base": QWEN, "train": {"global_batch_size": 16, "advanced": larger}})
    assert not plan(job, base_config=config, lengths=lengths, machine=free(machine, 3.5)).fits


def test_where_nothing_fits_a_device_and_a_base_are_named_that_do(machine: Machine) -> None:
    job = JOB.model_copy(update={"base": LLAMA_8B})
    fit = fitted(job, config_of(LLAMA_8B), lengths_of(100), free(machine, 6))
    assert not fit.fits and not fit.choices and fit.device.endswith("by qlora")
    assert fit.base and fitted(JOB, config_of(fit.base), lengths_of(), free(machine, 6)).fits
    packed = fitted(
        job, config_of(LLAMA_8B), lengths_of(100), gpu_machine(memory_gb=float(fit.device.split(", ")[1][:-3]))
    )
    assert packed.fits


@pytest.mark.req("R208")
def test_passes_of_a_large_base_on_a_gpu_are_the_usual_ones() -> None:
    sizes = []
    for gb in (16, 24, 80):
        fit = fitted(JOB, config_of(LLAMA_8B), lengths_of(100), gpu_machine(memory_gb=gb))
        sizes.append({choice.name.rpartition(".")[2]: choice.value for choice in fit.choices}["micro_batch_size"])
    assert sizes == [2, 4, 4]


def test_pretraining_trains_every_weight_so_four_bits_do_not_help(machine: Machine) -> None:
    job = JobConfig.model_validate({"base": QWEN, "train": {"method": "pretrain"}})
    fit = fitted(job, config_of(QWEN), lengths_of(), free(machine, 4))
    assert not fit.fits and not fit.choices


# --- base and folder ------------------------------------------------------------------------------------------------


def test_a_base_that_is_not_here_is_sized_by_the_catalogue(tmp_path: Path, machine: Machine) -> None:
    base = known_base("llama 3.1 8b")
    assert (base.name, base.folder) == (LLAMA_8B, None)
    draft = drafted(tmp_path, base="llama-3.1-8b")
    samples = own_samples(tmp_path / "rows.jsonl")
    auto = auto_job(draft, rough_lengths(draft.job, {"train": samples}), metric="rouge_l", machine=machine)
    assert auto.job.base == LLAMA_8B and "not on this machine yet" in auto.choices[0].reason
    with pytest.raises(NotFound):
        known_base("no-such-model-at-all")
    with pytest.raises(NotFound):
        known_base("./llama-3.1-8b")


def own_samples(path: Path) -> list[Any]:
    from foretune.data.formats import read_samples

    return read_samples(path).samples


def test_rough_lengths_are_a_quarter_of_the_characters(tmp_path: Path) -> None:
    draft = drafted(tmp_path)
    lengths = rough_lengths(draft.job, {"train": own_samples(tmp_path / "rows.jsonl")})
    text = f"{pair(12)['prompt']}\n{pair(12)['completion']}"
    assert lengths.train[12] == round(len(text) / 4) and len(lengths.train_answers) == 60


def test_the_folder_is_named_after_the_data_and_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert own_folder("in/My tickets (2).jsonl.gz", None) == Path("My-tickets-2")
    assert own_folder("hf:owner/some-set:config@main", None) == Path("some-set")
    assert own_folder("in", None) == Path("in-job")  # the data's own folder stays as it is
    assert own_folder("in", "mine") == Path("mine")
    (tmp_path / "mine").mkdir()
    assert own_folder("in", "mine") == Path("mine")
    (tmp_path / "mine" / "job.toml").write_text("")
    with pytest.raises(ConfigError, match="exists already"):
        own_folder("in", "mine")
    (tmp_path / "rows").write_text("")
    with pytest.raises(ConfigError, match="rows exists already"):
        own_folder("rows.csv", None)
