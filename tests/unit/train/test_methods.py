"""Methods end to end below the command line: a number to predict, an earlier adapter, packed bases, and bad input."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foretune
import foretune.train.train as train_module
from foretune.config.derive import LEARNING_RATES, USUAL_LEARNING_RATES, derive
from foretune.config.job import AdvancedTrain, JobConfig, Method, TrainConfig
from foretune.config.read import read_job, resolve_job
from foretune.data.samples import Message, Sample
from foretune.data.targets import Scale, number_of, scale_of, target_numbers
from foretune.data.tokenizer import Tokenizer
from foretune.engine.chat import ChatEngine
from foretune.engine.engine import load_engine
from foretune.errors import ConfigError, DataError, NotFound
from foretune.models.adapter import attach_lora, merge_lora
from foretune.models.load import load_model
from foretune.models.provenance import read_notes
from foretune.models.quantise import QuantisedLinear, prepare_for_training, quantise_layers, quantise_note
from foretune.models.shapes import lora_parameters, model_shape
from foretune.records.training import TrainingRecord
from foretune.steps import Run, collect_run, create_job_run, evaluate_run, plan_run
from foretune.train.attach import find_adapter
from foretune.train.objective import build_batch, loss_for
from foretune.train.rows import build_rows
from foretune.train.setup import build_setup
from foretune.train.train import train
from tiny import PEBBLE, tiny_model

METHODS: tuple[Method, ...] = Method.__args__  # type: ignore[attr-defined]


def trained(job: Path, settings: dict[str, Any], runs_dir: Path) -> Path:
    """A run of a job file that is collected and trained."""
    run = Run.open(create_job_run(resolve_job(job, settings), runs_dir=runs_dir))
    collect_run(run)
    train(run.job, run_dir=run.run_dir, runs_dir=runs_dir, folder=run.folder)
    return run.run_dir


def numbers(path: Path, num: int = 60) -> Path:
    """Rows whose score grows with the number of words."""
    rows = [{"text": " ".join(["tom"] * (1 + i % 6)) + f" {i}", "score": 10.0 * (1 + i % 6)} for i in range(num)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


REGRESSION = {
    "train.method": "regress",
    "data.path": "numbers.jsonl",
    "data.input_field": "text",
    "data.target_field": "score",
    "train.advanced.max_steps": 30,
    "train.advanced.eval_every": 10,
}


def test_a_number_is_learned_and_given_back_in_its_own_unit(tiny_job: Path, tmp_path: Path) -> None:
    numbers(tiny_job.parent / "numbers.jsonl")
    run_dir = trained(tiny_job, REGRESSION, tmp_path / "runs")
    record = TrainingRecord.read(run_dir)
    assert record.eval_curve[-1].loss < 0.5 * record.eval_curve[0].loss  # of one squared standard deviation
    notes = read_notes(run_dir / "adapter")
    assert notes.method == "regress" and 30 < notes.target_mean < 40 and 12 < notes.target_deviation < 20
    evaluation = evaluate_run(Run.open(run_dir), reuse_test=False)
    assert evaluation.primary_metric == "number_closeness"
    tuned = next(system for system in evaluation.systems if system.name == "fine_tuned")
    assert {"number_closeness", "absolute_error", "spearman"} <= set(tuned.metrics)
    assert tuned.metrics["absolute_error"].value < 60 and tuned.metrics["exact_match"].value < 1
    chat = ChatEngine(load_engine(Path(record.base), run_dir / "adapter"))
    held_out = Run.open(run_dir).split("validation")
    said = [
        float(reply.text) for reply in chat.replies([chat.prompt_ids(s.prompt) for s in held_out], max_new_tokens=4)
    ]
    errors = [(a - b) / notes.target_deviation for a, b in zip(said, target_numbers(held_out), strict=True)]
    assert float(np.mean(np.square(errors))) == pytest.approx(record.best_eval_loss, rel=1e-3)


def test_squared_error_is_that_of_torch(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"), num_labels=1, pad_id=0)
    attach_lora(loaded, rank=4, alpha=8, dropout=0.0)
    tokenizer = Tokenizer.from_folder(PEBBLE)
    samples = [Sample(str(i), (Message("user", f"tom {i}"), Message("assistant", str(i)))) for i in range(4)]
    rows = build_rows(samples, tokenizer, kind="regress", max_seq_len=32, scale=scale_of(target_numbers(samples))).rows
    batch = build_batch(rows, 0, loaded.device)
    with torch.no_grad():
        ours = float(loss_for(loaded)(loaded, batch).loss) / 4
        output = loaded.model(input_ids=batch.ids_BL, attention_mask=batch.mask_BL).logits[:, 0]
    expected = torch.nn.functional.mse_loss(output, torch.tensor([row.value for row in rows]))
    assert ours == pytest.approx(float(expected), rel=1e-6)
    assert np.mean([row.value for row in rows]) == pytest.approx(0) and sum(row.weight for row in rows) == 4


def test_targets_that_are_no_numbers_are_all_named() -> None:
    rows = [
        Sample(str(line), (Message("user", "x"), Message("assistant", text)), place=f"rows.csv:{line}")
        for line, text in enumerate(["1.5", "many", "-2e3", "nan", " 7 "], start=2)
    ]
    with pytest.raises(DataError) as caught:
        target_numbers(rows)
    assert "rows.csv:3" in str(caught.value) and "rows.csv:5" in str(caught.value) and len(caught.value.faults) == 2
    assert [number_of(text) for text in ("1.5", "-2e3", " 7 ", "inf", "")] == [1.5, -2000.0, 7.0, None, None]
    with pytest.raises(DataError, match="same number"):
        scale_of([3.0, 3.0])
    assert Scale(10, 2).restored(Scale(10, 2).standardised(13.5)) == 13.5


@pytest.mark.req("R031")
def test_training_starts_from_an_earlier_adapter_and_says_so(tiny_job: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = trained(tiny_job, {"train.advanced.lora_variant": "rslora"}, runs)
    second = trained(tiny_job, {"train.advanced.base_adapter": first.name, "data.test_fraction": 0.0}, runs)
    record = TrainingRecord.read(second)
    assert record.base_adapter == first.name and len(record.base_adapter_sha256) == 64
    assert read_notes(second / "adapter").base_adapter_sha256 == record.base_adapter_sha256
    assert any(first.name in note for note in record.notes)
    assert record.notes[0].startswith("engine: flat tokens") and not set(record.notes) & set(record.warnings)
    config = json.loads((second / "adapter/adapter_config.json").read_text())
    assert config["use_rslora"] and config["r"] == 4
    best = min(point.loss for point in TrainingRecord.read(first).eval_curve)
    assert record.eval_curve[0].loss == pytest.approx(best, rel=0.2) or record.eval_curve[0].loss < best * 1.2


def test_an_earlier_adapter_must_be_there_be_lora_and_be_for_this_base(tiny_job: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(NotFound, match="'nowhere' is neither a run"):
        find_adapter("nowhere", runs_dir=runs, folder=tmp_path)
    prompt = trained(tiny_job, {"train.method": "prompt", "train.advanced.max_steps": 1}, runs)
    with pytest.raises(ConfigError, match="no LoRA adapter"):
        find_adapter(str(prompt / "adapter"), runs_dir=runs, folder=tmp_path)
    lora = trained(tiny_job, {"train.advanced.max_steps": 1}, runs)
    for name in (lora.name, f"runs/{lora.name}", str(lora), str(lora / "adapter")):
        found = find_adapter(name, runs_dir=runs, folder=tmp_path)
        assert found is not None and found.folder == lora / "adapter"
    other = tmp_path / "other"
    shutil.copytree(resolve_job(tiny_job).job.base, other)
    from safetensors.torch import load_file, save_file

    tensors = load_file(other / "model.safetensors")
    save_file({name: value + 0.01 for name, value in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="trained on another base"):
        trained(tiny_job, {"base": str(other), "train.advanced.base_adapter": lora.name}, runs)
    family = tiny_model(tmp_path / "family", "gpt2")  # other layers, and an adapter that does not know its base
    (lora / "adapter/foretune.json").unlink()
    with pytest.raises(ConfigError, match=r"q_proj.*matches no linear layer"):
        trained(tiny_job, {"base": str(family), "train.advanced.base_adapter": lora.name}, runs)


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@pytest.mark.req("R202")
def test_qlora_trains_and_is_evaluated_on_the_packed_base(bits: str, tiny_job: Path, tmp_path: Path) -> None:
    run_dir = trained(
        tiny_job, {"train.method": "qlora", "train.advanced.quantise_base": bits, "evaluate.advanced.probe_samples": 0},
        tmp_path / "runs",
    )  # fmt: skip
    record = TrainingRecord.read(run_dir)
    assert record.method == "lora" and any("plain torch" in note for note in record.notes)
    assert record.parity is not None and record.parity.is_active and record.parity.forms[0].max_kl_nats == 0.0
    engine = load_engine(Path(record.base), run_dir / "adapter")
    packed = [module for module in engine.loaded.model.modules() if isinstance(module, QuantisedLinear)]
    assert len(packed) == 14 and {layer.bits for layer in packed} == {bits}
    with pytest.raises(ConfigError, match="cannot be merged into a quantised weight"):
        merge_lora(engine.loaded)


@pytest.mark.req("R202", "R203")
def test_the_door_to_packed_bases_says_what_it_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert quantise_note("none", torch.device("cpu")) == ""
    assert "CUDA only" in quantise_note("4bit", torch.device("cpu"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install bitsandbytes" in quantise_note("8bit", torch.device("cuda"))
    with pytest.raises(ConfigError, match="no linear layer"):
        quantise_layers(torch.nn.Sequential(torch.nn.Embedding(3, 4)), "8bit")
    called: list[tuple[torch.nn.Module, bool]] = []
    monkeypatch.setattr(
        "peft.prepare_model_for_kbit_training",
        lambda model, use_gradient_checkpointing: called.append((model, use_gradient_checkpointing)),
    )
    model: Any = torch.nn.Linear(2, 2)
    model.is_quantized = True
    prepare_for_training(model)
    assert called == [(model, False)]


@pytest.mark.req("R187")
def test_qlora_is_lora_on_four_bits_and_whole_methods_take_no_packed_base() -> None:
    alias = TrainConfig.model_validate({"method": "qlora"})
    assert alias.method == "lora" and alias.advanced.quantise_base == "4bit"
    chosen = TrainConfig.model_validate({"method": "qlora", "advanced": {"quantise_base": "8bit", "dropout": 0.1}})
    assert chosen.advanced.quantise_base == "8bit" and chosen.advanced.dropout == 0.1
    for method in ("full", "pretrain"):
        with pytest.raises(ValueError, match="trains every weight"):
            TrainConfig.model_validate({"method": method, "advanced": {"quantise_base": "8bit"}})
    with pytest.raises(ValueError, match="leaves nothing to quantise"):
        TrainConfig.model_validate({"method": "qlora", "advanced": {"init": "random"}})
    with pytest.raises(ValueError, match="starts a LoRA adapter"):
        TrainConfig.model_validate({"method": "prompt", "advanced": {"base_adapter": "run-001"}})


def test_every_method_has_a_rate_within_its_usual_range() -> None:
    assert set(LEARNING_RATES) == set(USUAL_LEARNING_RATES) == set(METHODS)
    for method, rate in LEARNING_RATES.items():
        low, high = USUAL_LEARNING_RATES[method]
        assert low <= rate <= high
        job = JobConfig.model_validate({"train": {"method": method, "learning_rate": high * 10}})
        derived = derive(job, num_train_samples=100, longest_sample_tokens=50, model_max_len=512)
        assert any("outside the usual" in warning and method in warning for warning in derived.warnings)


@pytest.mark.req("R238", "R239", "R244")
def test_defaults_are_those_of_the_presets() -> None:
    defaults, job = TrainConfig(), JobConfig()
    assert (defaults.rank, defaults.advanced.dropout, defaults.epochs, defaults.global_batch_size) == (
        16,
        0.05,
        3.0,
        16,
    )
    preset = read_job(Path(foretune.__file__).parent / "config/templates/sentiment.toml")
    assert (preset.train.method, preset.train.epochs, preset.train.global_batch_size) == ("classify", 3.0, 16)
    assert preset.evaluate.advanced.batch_size == 64
    derived = derive(job, num_train_samples=1000, longest_sample_tokens=64, model_max_len=512)
    assert derived.alpha == 32 and derived.global_batch_size == 16


def test_precision_follows_the_hardware() -> None:
    job = JobConfig()
    sizes = {"num_train_samples": 10, "longest_sample_tokens": 8, "model_max_len": 64}
    assert derive(job, **sizes, device="cuda", has_bf16=True).precision == "bf16"  # type: ignore[arg-type]
    assert derive(job, **sizes, device="cuda", has_bf16=False).precision == "fp32"  # type: ignore[arg-type]
    assert derive(job, **sizes, device="cpu").precision == "fp32"  # type: ignore[arg-type]


@pytest.mark.req("R247")
def test_adapters_on_every_linear_layer_of_llama_2_are_4_77_times_as_many() -> None:
    shape = model_shape(
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096}
    )  # fmt: skip
    usual = lora_parameters(shape, rank=16, target_modules=("q_proj", "v_proj"))
    every = lora_parameters(shape, rank=16, target_modules=("all-linear",))
    assert usual == 8_388_608 and every == 39_976_960
    assert round(every / usual, 2) == 4.77


def test_virtual_tokens_that_leave_no_room_are_refused(tiny_job: Path, tmp_path: Path) -> None:
    for method in ("prompt", "prefix"):
        settings = {"train.method": method, "train.advanced.num_prompt_tokens": 512}
        with pytest.raises(ConfigError, match="leaves no room among the model's 512 positions"):
            trained(tiny_job, settings, tmp_path / "runs")


def test_a_tokenizer_of_another_model_is_refused(tiny_job: Path, tmp_path: Path) -> None:
    base = tmp_path / "mixed"
    shutil.copytree(resolve_job(tiny_job).job.base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "bos_token_id": 120, "eos_token_id": 121}))
    with pytest.raises(ConfigError, match="special tokens are ordinary ones to the tokenizer"):
        trained(tiny_job, {"base": str(base)}, tmp_path / "runs")


def test_a_row_beyond_the_positions_of_the_model_is_said_and_left_out(tiny_job: Path, tmp_path: Path) -> None:
    rows = (tiny_job.parent / "data/colours.jsonl").read_text().splitlines()
    long = json.loads(rows[0])
    long["messages"][0]["content"] = "sky " * 900
    lines = [*rows[1:], *[json.dumps(long)] * 3]
    (tiny_job.parent / "data/colours.jsonl").write_text("\n".join(lines) + "\n")
    run_dir = trained(tiny_job, {"train.max_seq_len": 5000, "train.advanced.max_steps": 1}, tmp_path / "runs")
    record = TrainingRecord.read(run_dir)
    assert any("max_seq_len 5000 is more than the model's 512" in warning for warning in record.warnings)
    assert record.num_dropped_samples > 0


def test_classes_seen_only_in_validation_are_all_named(tiny_job: Path, tmp_path: Path) -> None:
    folder = tiny_job.parent
    for name, labels in (("train", "ab" * 10), ("validation", "abxy")):
        rows = [{"text": f"{label} {i}", "label": label} for i, label in enumerate(labels)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "train.method": "classify", "data.path": "train.jsonl", "data.validation_path": "validation.jsonl",
        "data.input_field": "text", "data.target_field": "label",
    }  # fmt: skip
    with pytest.raises(DataError) as caught:
        trained(tiny_job, settings, tmp_path / "runs")
    assert "validation.jsonl:3" in str(caught.value) and "validation.jsonl:4" in str(caught.value)


@pytest.mark.parametrize("method", ["prefix", "regress", "dpo", "kto"])
def test_the_plan_counts_what_training_trains(method: str, tiny_job: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train.method": method}
    if method == "regress":
        numbers(tiny_job.parent / "numbers.jsonl")
        settings = REGRESSION
    if method in ("dpo", "kto"):
        rows = [{"prompt": f"tom {i}?", "chosen": "a cat", "rejected": "a dog"} for i in range(40)]
        (tiny_job.parent / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings["data.path"] = "pairs.jsonl"
    run = Run.open(create_job_run(resolve_job(tiny_job, settings), runs_dir=tmp_path / "runs"))
    collect_run(run)
    planned = plan_run(run, probe=False)
    setup = build_setup(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder)
    assert planned.trainable_parameters == setup.trainable_parameters
    assert planned.total_parameters == setup.total_parameters
    assert planned.num_train_samples == len(setup.train.rows)
    assert planned.max_seq_len == setup.settings.max_seq_len
    assert planned.micro_batch_size == setup.settings.micro_batch_size


def test_config_of_preference_methods_is_checked() -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        TrainConfig(method="dpo", advanced=AdvancedTrain(label_smoothing=0.5))
    assert AdvancedTrain().beta == 0.1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"train.advanced.lora_variant": "dora"}, "because DoRA layers are no plain sums"),
        ({"train.advanced.quantise_base": "8bit"}, "because the base is quantised"),
        ({"train.advanced.without": ("packing", "kernels")}, "off by train.advanced.without: packing, kernels"),
    ],
    ids=["dora", "8bit", "without"],
)
def test_the_run_names_its_engine_in_the_words_of_the_plan(
    tiny_job: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    run = Run.open(create_job_run(resolve_job(tiny_job, settings), runs_dir=tmp_path / "runs"))
    collect_run(run)
    setup = build_setup(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder)
    assert reason in setup.engine


def test_a_gate_without_memory_for_a_second_model_keeps_what_was_trained(
    tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **known: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(train_module, "parity", full)
    run_dir = trained(tiny_job, {"train.advanced.max_steps": 1}, tmp_path / "runs")
    record = TrainingRecord.read(run_dir)
    assert record.parity is None and any("parity gate did not run" in warning for warning in record.warnings)
