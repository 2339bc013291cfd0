"""Each entry of the bank of known failures, made to happen: refused, mended, said or caught as the bank claims."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from byte_tokenizer import CHATML, CHATML_TOKENS, write_tokenizer
from foretune.config import JobConfig
from foretune.config.derive import derive
from foretune.data.formats import read_samples
from foretune.data.micro import global_batch
from foretune.data.samples import Message, Sample
from foretune.data.tokenise import tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.engine.engine import Engine, load_engine
from foretune.errors import CheckpointError, ConfigError, DataError, DoesNotFit, ForetuneError, MissingDependency
from foretune.models.adapter import attach_lora, load_adapter, merge_lora
from foretune.models.generate_slots import Slots
from foretune.models.load import LoadedModel, load_model
from foretune.models.lora import LowRank
from foretune.models.quantise import quantise_layers
from foretune.models.save import save_artefact
from foretune.records.events import EventLog
from foretune.records.parity import ParityRecord
from foretune.records.token_audit import TokenAuditRecord
from foretune.train.checkpoint import LoopState, latest_checkpoint, save_checkpoint
from foretune.train.disk import check_disk
from foretune.train.known_bad import KNOWN_FAILURES, known_failures_table
from foretune.train.loss_scale import checked_norm, loss_scaler
from foretune.train.memory_ladder import MemorySettings, next_rung
from foretune.train.objective import Row, loss_for
from foretune.train.parity_gate import check_parity, parity
from foretune.train.passes import PaddedPasses
from foretune.train.post_mortem import post_mortem
from foretune.train.pre_flight import check_finite, check_isolation
from foretune.train.resume_test import check_resumable, resume_self_test
from foretune.train.token_audit import Audited, check_tokens, said_findings, token_audit
from tiny import tiny_model

TALK = (Message("user", "What colour is the sky today?"), Message("assistant", "It is blue."))
SAMPLE = Sample(id="1", messages=TALK, place="rows.jsonl:1")
NO_END = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
Check = Callable[[Path, pytest.MonkeyPatch], None]
CHECKS: dict[str, Check] = {}


def makes(key: str) -> Callable[[Check], Check]:
    """Registers the test of one entry."""

    def register(check: Check) -> Check:
        CHECKS[key] = check
        return check

    return register


@dataclass(frozen=True)
class Built:
    """One row with what it came from."""

    tokenizer: Tokenizer
    sample: Sample
    row: Row

    def audit(self, row: Row | None = None, **changes: Any) -> TokenAuditRecord:
        """The audit of this row, or of another in its place."""
        settings: dict[str, Any] = {"tokenizer": self.tokenizer, "samples": [self.sample]} | changes
        audited = Audited(kind="causal", method="lora", train_on="assistant", train=[row or self.row], **settings)
        return token_audit(audited)


def built(folder: Path, sample: Sample = SAMPLE, **settings: Any) -> Built:
    """A tokenised row of a byte tokenizer with the ChatML template."""
    tokenizer = Tokenizer.from_folder(write_tokenizer(folder / "tokenizer", **settings))
    done = tokenise(sample, tokenizer)
    return Built(tokenizer, sample, Row(np.asarray(done.ids), np.asarray(done.loss_mask, dtype=np.float32)))


def stopped_by(record: TokenAuditRecord, number: str) -> None:
    """The audit stops the run with this finding, and names the row."""
    assert number in {finding.id for finding in record.stops}
    with pytest.raises(DataError) as refused:
        check_tokens(record)
    assert refused.value.fix
    named = [fault for fault in refused.value.faults if number in fault.what]
    assert named and (number == "TOK020" or (named[0].file, named[0].line) == ("rows.jsonl", 1))


def said(record: TokenAuditRecord, number: str, severity: str) -> str:
    """The audit says it without stopping; its words."""
    (found,) = [finding for finding in record.findings if finding.id == number]
    assert found.severity == severity and not record.stops
    return f"{found.title}: {found.reason} {found.fix}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama."""
    return tiny_model(tmp_path_factory.mktemp("base"))


BASE: dict[str, Path] = {}


@pytest.mark.parametrize("key", [one.key for one in KNOWN_FAILURES])
def test_known_failure(key: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BASE["tiny"] = base
    CHECKS[key](tmp_path, monkeypatch)


def test_the_bank_and_the_page_agree(repository: Path) -> None:
    assert set(CHECKS) == {one.key for one in KNOWN_FAILURES}
    page = (repository / "docs" / "train.md").read_text(encoding="utf-8")
    missing = [line for line in known_failures_table() if line not in page]
    assert not missing, "docs/train.md lacks rows of known_failures_table()"


# --- resuming -------------------------------------------------------------------------------------------------------


def small_state() -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer, LoopState]:
    torch.manual_seed(0)
    parameters = {"a": torch.nn.Parameter(torch.randn(3, 4)), "b": torch.nn.Parameter(torch.randn(4))}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    sum((p**2).sum() for p in parameters.values()).backward()
    optimizer.step()
    return dict(parameters), optimizer, LoopState(step=3, window=[0.5])


@makes("resume-at-zero")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    parameters, optimizer, state = small_state()
    save_checkpoint(folder, state, parameters, optimizer, "these settings")
    check_resumable(folder, "these settings")
    with pytest.raises(CheckpointError, match="other settings"):
        check_resumable(folder, "others")
    written, said_lines = folder / "step-000003" / "tensors.safetensors", list[str]()
    written.write_bytes(written.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="all 1 checkpoints are damaged; nothing was trained"):
        latest_checkpoint(folder, parameters, optimizer, "these settings", said_lines.append)
    assert len(said_lines) == 1 and "does not match its hash" in said_lines[0]
    assert latest_checkpoint(folder / "none", parameters, optimizer, "these settings") is None


@makes("resume-other-loss")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    parameters, optimizer, state = small_state()
    path = save_checkpoint(folder, state, parameters, optimizer, "key")
    assert resume_self_test(path, parameters, optimizer, state, "key").num_tensors == 8
    with torch.no_grad():
        optimizer.state[parameters["a"]]["exp_avg_sq"][0, 0] += 1e-7
    with pytest.raises(CheckpointError, match="exp_avg_sq of a"):
        resume_self_test(path, parameters, optimizer, state, "key")


@makes("resume-other-data")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    whole = [list(global_batch(step, 20, 4, seed=3)) for step in range(10)]
    assert [list(global_batch(step, 20, 4, seed=3)) for step in range(6, 10)] == whole[6:]
    assert sorted(i for batch in whole[:5] for i in batch) == list(range(20))


# --- training and serving -------------------------------------------------------------------------------------------


@makes("double-begin")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    template = "{{ bos_token }}" + CHATML
    specials = (*CHATML_TOKENS, "<s>")
    it = built(folder, template=template, specials=specials, bos_token="<s>")
    assert not it.audit().stops
    begin = it.tokenizer.bos_id
    twice = Row(np.concatenate([[begin], it.row.ids]), np.concatenate([[0], it.row.weights]))
    stopped_by(it.audit(twice), "TOK002")


@makes("other-prompt-in-serving")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    served = CHATML.replace("<|im_start|>assistant", "<|im_start|>bot")
    record = it.audit(tokenizer=it.tokenizer.with_template(served))
    stopped_by(record, "TOK040")
    assert "serving" in record.stops[0].evidence[0]


@makes("thinking-dropped")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    template = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    sample = replace(SAMPLE, messages=(TALK[0], Message("assistant", "<think>light scatters</think>It is blue.")))
    with pytest.raises(DataError, match=r"rows\.jsonl:1.*drops or rewrites the answer"):
        built(folder, sample, template=template)


@makes("other-template-in-artefact")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    trained = adapted()
    trained.model.requires_grad_(True)

    def other() -> Engine:
        engine = load_engine(BASE["tiny"], artefact_of(trained, folder))
        return Engine(engine.loaded, engine.tokenizer.with_template(CHATML))

    refused(gate(trained, artefact_of(trained, folder), reload=other), "chat template")


# --- adapters -------------------------------------------------------------------------------------------------------


def adapted(strength: float = 0.2) -> LoadedModel:
    """The tiny model with an adapter of this strength."""
    loaded = load_model(BASE["tiny"], pad_id=0)
    attach_lora(loaded, rank=4, alpha=8.0, dropout=0.0, target_modules=("all-linear",), seed=1)
    torch.manual_seed(2)
    for module in loaded.model.modules():
        if isinstance(module, LowRank):
            torch.nn.init.normal_(module.lora_b, std=strength)
    return loaded


def artefact_of(loaded: LoadedModel, folder: Path, method: str = "lora") -> Path:
    """What training leaves."""
    return save_artefact(loaded, folder, method=method, base=str(BASE["tiny"]))


def gate(trained: LoadedModel, artefact: Path, **options: Any) -> ParityRecord:
    """The parity gate on two prompts."""
    tokenizer = Tokenizer.from_folder(BASE["tiny"])
    samples = [SAMPLE, replace(SAMPLE, messages=(Message("user", "And the sea?"), TALK[1]))]
    return parity(trained, tokenizer, samples, base=BASE["tiny"], artefact=artefact, **options)


def refused(record: ParityRecord, why: str) -> None:
    """The gate closes for this reason."""
    assert any(why in problem for problem in record.problems), record.problems
    with pytest.raises(CheckpointError):
        check_parity(record)


@makes("adapter-under-other-names")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    path = artefact_of(adapted(), folder)
    tensors = load_file(path / "adapter_model.safetensors")
    save_file(
        {name.replace("model.layers", "layers"): t for name, t in tensors.items()}, path / "adapter_model.safetensors"
    )
    with pytest.raises(ConfigError):
        load_adapter(load_model(BASE["tiny"], pad_id=0), path)


@makes("adapter-not-active")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    idle = adapted(strength=0.0)
    record = gate(idle, artefact_of(idle, folder))
    assert record.is_active is False
    refused(record, "as its base does")


@makes("base-exported")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    trained = adapted()
    path = artefact_of(trained, folder)
    refused(gate(trained, path, reload=lambda: load_engine(BASE["tiny"])), "reloaded model differs")


@makes("merged-differs")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    trained = adapted()
    path = artefact_of(trained, folder)
    good = gate(trained, path)
    check_parity(good)
    assert [form.form for form in good.forms] == ["reloaded", "merged", "int8"] and good.forms[1].holds
    usual = LowRank.merge

    def twice(layer: LowRank) -> torch.nn.Module:
        layer.scale *= 2
        return usual(layer)

    patch.setattr(LowRank, "merge", twice)
    refused(gate(trained, path), "merged model differs")


@makes("merged-into-quantised")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    loaded = load_model(BASE["tiny"], pad_id=0)
    quantise_layers(loaded.model, "8bit")
    attach_lora(loaded, rank=2, alpha=4.0, dropout=0.0)
    with pytest.raises(ConfigError, match="quantised"):
        merge_lora(loaded)


@makes("targets-match-nothing")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="matches no linear layer") as error:
        attach_lora(load_model(BASE["tiny"], pad_id=0), rank=2, alpha=4.0, dropout=0.0, target_modules=("query_key",))
    assert error.value.fix


@makes("nan-artefact")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    trained = adapted()
    with torch.no_grad():
        next(m for m in trained.model.modules() if isinstance(m, LowRank)).lora_b[0, 0] = float("nan")
    record = gate(trained, artefact_of(trained, folder))
    assert not record.is_finite
    refused(record, "not finite")


# --- memory, disk, packages -----------------------------------------------------------------------------------------


@makes("memory-in-training")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    settings, sizes = MemorySettings(8, 16, 512, "lora"), []
    for _ in range(4):
        settings = next_rung(MemoryError(), settings).settings
        sizes.append((settings.micro_batch_size, settings.recomputes_activations))
        assert settings.global_batch_size == 16
    assert sizes == [(4, False), (2, False), (1, False), (1, True)]
    with pytest.raises(DoesNotFit, match="nothing smaller") as end:
        next_rung(MemoryError(), settings)
    assert "quantise_base" in end.value.fix


@makes("memory-in-evaluation")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    engine = load_engine(BASE["tiny"])
    prompts = [[1, 5, 9], [1, 7], [1, 8, 8, 8], [1, 2, 3]]
    made, sizes = Slots.__init__, []

    def full(self: Slots, heads: Any, shared: Any, num_slots: int, num_tokens: int) -> None:
        sizes.append(num_slots)
        if num_slots > 2:
            raise MemoryError
        made(self, heads, shared, num_slots, num_tokens)

    expected = engine.generate(prompts, max_new_tokens=3, batch_size=2)
    patch.setattr(Slots, "__init__", full)
    assert engine.generate(prompts, max_new_tokens=3, batch_size=4) == expected
    assert sizes[:2] == [4, 2]


@makes("dependency-too-old")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    import transformers

    patch.setattr(transformers, "__version__", "4.40.0")
    with pytest.raises(MissingDependency, match=r"4\.40") as error:
        load_model(BASE["tiny"])
    assert error.value.fix.startswith("pip install")


@makes("disk-full")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10_000_000))
    check_disk(folder / "not" / "yet", 9_000_000, "this run")
    with pytest.raises(DoesNotFit, match=r"needs 11\.0 MB of disk, 10\.0 MB are free"):
        check_disk(folder, 11_000_000, "the next checkpoint")


# --- which tokens are learned ---------------------------------------------------------------------------------------


@makes("all-masked")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    stopped_by(it.audit(it.row._replace(weights=it.row.weights * 0)), "TOK001")


@makes("marker-not-found")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    # the end of the prompt and the beginning of the answer are one token when they stand together
    merges = (("Ċ", "Ċ"),)
    sample = replace(SAMPLE, messages=(TALK[0], Message("assistant", "\nIt is blue.")))
    it = built(folder, sample, merges=merges)
    learned = it.tokenizer.decode([int(i) for i in it.row.ids[it.row.weights > 0]], False)
    assert learned == "\nIt is blue.<|im_end|>" and not it.audit().stops


@makes("prompt-learned")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    weights = np.ones_like(it.row.weights)
    record = it.audit(it.row._replace(weights=weights))
    stopped_by(record, "TOK041")
    assert "What colour" in record.stops[0].evidence[0]


@makes("answer-not-learned")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    weights = it.row.weights.copy()
    weights[np.flatnonzero(weights)[2:5]] = 0
    stopped_by(it.audit(it.row._replace(weights=weights)), "TOK042")


@makes("targets-cut-off")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    long = replace(SAMPLE, id="2", place="rows.jsonl:2")
    record = it.audit(samples=[SAMPLE, long], dropped=["rows.jsonl:2"], num_dropped=1, max_seq_len=80)
    assert "longer than 80 tokens" in said(record, "TOK005", "warning")
    assert record.findings[0].places == ("rows.jsonl:2",) and record.num_read_rows == 1


@makes("longer-than-positions")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    length = len(it.row.ids)
    assert not it.audit(max_positions=length).stops
    stopped_by(it.audit(max_positions=length + 15, num_virtual_tokens=16), "TOK004")


@makes("pad-is-eos")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder, pad_token=None)
    assert it.tokenizer.pad_id == it.tokenizer.eos_id
    assert "learned in 1 of 1 rows" in said(it.audit(), "TOK022", "mended")
    assert any("; mended: masks come from lengths" in line for line in said_findings(it.audit()))


@makes("template-without-end")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder, template=NO_END)
    assert it.row.ids[-1] == it.tokenizer.eos_id and it.row.weights[-1] == 1
    assert "put behind the last answer" in said(it.audit(), "TOK023", "mended")


@makes("end-not-learned")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    weights = it.row.weights * (it.row.ids != it.tokenizer.eos_id)
    stopped_by(it.audit(it.row._replace(weights=weights)), "TOK021")


@makes("no-stop-token")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder, template=NO_END, specials=())
    assert it.tokenizer.stop_ids == ()
    stopped_by(it.audit(), "TOK020")


@makes("end-unknown-to-servers")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    end = it.tokenizer.eos_id
    assert not it.audit(model_config={"eos_token_id": [end, 5]}).findings
    (found,) = [f for f in it.audit(model_config={"eos_token_id": 5}).findings if f.id == "TOK024"]
    assert found.severity == "warning" and f"[5, {end}]" in found.fix


@makes("leaked-rows")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    assert not it.audit(validation=[it.row._replace(ids=it.row.ids[:-1], weights=it.row.weights[:-1])]).findings
    assert "too optimistic" in said(it.audit(validation=[it.row]), "TOK006", "warning")


@makes("other-tokenizer")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    it = built(folder)
    largest = int(it.row.ids.max())
    assert not it.audit(embedding_rows=largest + 1).stops
    stopped_by(it.audit(embedding_rows=largest), "TOK003")
    strange = it.audit(model_config={"bos_token_id": 1, "eos_token_id": 7})
    assert "belong to another model" in said(strange, "TOK026", "warning")
    assert any(re.match("TOK026: eos is .*; mend: use the tokenizer", line) for line in said_findings(strange))


@makes("fault-without-row")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    rows = ['{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'] * 3
    rows[1] = '{"messages": [{"role": "user", "content": 7}]}'
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_samples(folder / "rows.jsonl", task="any")
    assert [fault.line for fault in error.value.faults] == [2]


# --- numbers --------------------------------------------------------------------------------------------------------


@makes("nan-base")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    loaded = load_model(BASE["tiny"], pad_id=0)
    check_finite(loaded)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[3, 1] = float("inf")
    with pytest.raises(ConfigError, match="embed_tokens"):
        check_finite(loaded)


@makes("half-precision-overflow")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    scaler = loss_scaler(torch.device("cpu"), "fp16", LoopState())
    assert scaler.is_enabled() and checked_norm(scaler, 1.0, float("inf"), step=1, rate=1.0, calmer_rate=0.1) is None
    job = JobConfig.model_validate({"train": {"advanced": {"precision": "fp16"}}})
    with pytest.raises(ConfigError, match="precision fp16"):
        derive(job, num_train_samples=9, longest_sample_tokens=9, model_max_len=None)


@makes("diverged")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    with EventLog(folder) as events:
        events.add("train_start", step=0, planned_steps=9)
        events.add("step", step=1, loss=2.0, learning_rate=0.02)
        events.add("step", step=2, loss=float("nan"), learning_rate=0.02)
        events.add("failed", error="TrainingDiverged", message="step 3: loss nan", fix="")
    record = post_mortem(folder)
    assert record is not None and record.cause == "diverged"
    assert record.patch == {"train.learning_rate": 0.002} and "NaN" in " ".join(record.evidence)


def random_rows(count: int) -> list[Row]:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        ids = random.integers(10, 300, size=random.integers(5, 24))
        weights = (np.arange(len(ids)) >= len(ids) // 2).astype(np.float32)
        rows.append(Row(ids, weights))
    return rows


@makes("accumulation-scales-loss")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    loaded, rows = load_model(BASE["tiny"], pad_id=0), random_rows(6)
    loaded.model.requires_grad_(True)
    passes = PaddedPasses(loaded, loss_for(loaded), "fp32", 0)
    weight, grads = sum(row.weight for row in rows), []
    for budget in (1, 10_000):
        loaded.model.zero_grad()
        for micro in passes.cut(rows, budget):
            (micro.loss().loss / weight).backward()
        grads.append(loaded.model.get_input_embeddings().weight.grad.clone())
    assert torch.allclose(grads[0], grads[1], atol=1e-6)


@makes("packing-contamination")
def _(folder: Path, patch: pytest.MonkeyPatch) -> None:
    loaded, rows = load_model(BASE["tiny"], pad_id=0), random_rows(6)
    passes = PaddedPasses(loaded, loss_for(loaded), "fp32", 0)
    assert check_isolation(loaded, passes, rows, method="lora", precision="fp32") < 1e-5

    class EndToEnd:
        """Packs rows without keeping them apart."""

        def cut(self, some: Sequence[Row], budget_tokens: int) -> Any:
            weights = [np.concatenate([[0], row.weights[1:]]) for row in some]
            whole = Row(np.concatenate([row.ids for row in some]), np.concatenate(weights))
            return passes.cut([whole], budget_tokens)

    with pytest.raises(ConfigError, match="reaches across samples"):
        check_isolation(loaded, EndToEnd(), rows, method="lora", precision="fp32")  # type: ignore[arg-type]


def test_every_refusal_says_how_to_mend(tmp_path: Path) -> None:
    it = built(tmp_path)
    bad = it.row._replace(weights=it.row.weights * 0)
    with pytest.raises(ForetuneError) as error:
        check_tokens(it.audit(bad))
    assert "nothing was trained" in error.value.what and error.value.fix
    assert json.loads(it.audit(bad).model_dump_json())["findings"][0]["places"] == ["rows.jsonl:1"]
