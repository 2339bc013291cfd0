"""The audit before the first step on runs that are ready to train, for every method; and single checks of it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byte_tokenizer import CHATML, CHATML_TOKENS, write_tokenizer
from foretune import journey
from foretune.config import resolve_job
from foretune.data.samples import Message, Sample
from foretune.data.token_view import shown_sample, token_texts
from foretune.data.tokenise import tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError
from foretune.models.load import load_model
from foretune.records.token_audit import TokenAuditRecord
from foretune.steps import Run, create_job_run
from foretune.train.objective import Row
from foretune.train.pre_flight import audit_tokens, check_isolation, untrained_ids
from foretune.train.setup import build_setup
from foretune.train.token_audit import Audited, check_tokens, token_audit
from foretune.train.token_job import audit_job_tokens
from tiny import tiny_model

METHODS = ("lora", "full", "prompt", "prefix", "classify", "regress", "pretrain", "seq2seq", "dpo", "kto")


def ready(method: str, folder: Path) -> Run:
    """A collected run of the method on a tiny model."""
    base = tiny_model(folder / "base", "t5" if method == "seq2seq" else "llama")
    rows: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    for n in range(40):
        colour = ("blue", "green", "gold")[n % 3]
        words = " ".join("".join(random.choice(list("aeioulnrst"), 5)) for _ in range(6))
        ask = f"{words}: which colour has the {('sky', 'sea', 'sun')[n % 3]}?"
        if method == "classify":
            rows.append({"text": ask, "label": colour})
        elif method == "regress":
            rows.append({"text": ask, "label": str(n / 4)})
        elif method == "kto":
            rows.append({"prompt": ask, "completion": f"it is {colour}", "label": n % 2 == 0})
        elif method == "pretrain":
            rows.append({"text": f"{ask} it is {colour}. " * 3})
        elif method == "dpo":
            rows.append({"prompt": ask, "chosen": f"it is {colour}", "rejected": f"no idea {n}"})
        else:
            rows.append({"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": colour}]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = "lora" if method == "seq2seq" else method
    (folder / "job.toml").write_text(
        f'base = "{base}"\n[data]\npath = "rows.jsonl"\n'
        f'[train]\nmethod = "{named}"\nrank = 4\n[train.advanced]\nnum_threads = 1\nmax_steps = 2\n'
    )
    run = Run.open(create_job_run(resolve_job(folder / "job.toml"), runs_dir=folder / "runs"))
    journey.do_stage(run, "collect")
    return run


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.req("R432")
def test_a_sound_run_of_every_method_passes(method: str, tmp_path: Path) -> None:
    run = ready(method, tmp_path)
    setup = build_setup(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder)
    samples = run.split("train")
    record = audit_tokens(
        run.job,
        setup.loaded,
        setup.tokenizer,
        setup.train,
        setup.validation,
        samples,
        max_seq_len=setup.derived.max_seq_len,
    )
    check_tokens(record)
    assert record.kind == setup.loaded.kind and record.num_rows == len(setup.train.rows)
    assert record.num_read_rows == (0 if method == "pretrain" else record.num_rows)
    assert (record.num_loss_tokens > 0) is (method not in ("classify", "regress"))
    error = check_isolation(
        setup.loaded, setup.passes, setup.train.rows, method=run.job.train.method, precision=setup.settings.precision
    )
    assert error < 1e-4
    before = audit_job_tokens(run.job, tmp_path / "base", samples, run.split("validation"))
    assert before.num_tokens == record.num_tokens and before.num_loss_tokens == record.num_loss_tokens
    assert {finding.id for finding in before.findings} == {finding.id for finding in record.findings}
    assert TokenAuditRecord.model_validate_json(record.model_dump_json()) == record


def test_untrained_embeddings_are_found_and_named(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "base"), pad_id=0)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[[5, 900]] = 0.0
    assert untrained_ids(loaded) == {0, 5, 900}  # 0 pads, which no row holds
    tokenizer = Tokenizer.from_folder(tmp_path / "base")
    row = Row(np.asarray([1, 900, 7, 2]), np.asarray([0, 0, 1, 1], dtype=np.float32))
    record = token_audit(Audited(tokenizer, "causal", "lora", "all", [row], untrained_ids=untrained_ids(loaded)))
    (found,) = [finding for finding in record.findings if finding.id == "TOK008"]
    assert tokenizer.token_text(900) in found.title and found.num_rows == 1


def sample(text: str = "It is blue.", place: str = "rows.jsonl:1") -> Sample:
    return Sample(
        id=place, messages=(Message("user", "What colour has the sky?"), Message("assistant", text)), place=place
    )


def rows_of(samples: list[Sample], tokenizer: Tokenizer) -> list[Row]:
    done = [tokenise(one, tokenizer) for one in samples]
    return [Row(np.asarray(one.ids), np.asarray(one.loss_mask, dtype=np.float32)) for one in done]


def test_a_missing_begin_token_is_said(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers.processors import TemplateProcessing

    folder = write_tokenizer(tmp_path, specials=(*CHATML_TOKENS, "<s>"), bos_token="<s>")
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))])
    backend.save(str(folder / "tokenizer.json"))
    plain = Tokenizer.from_folder(folder)
    for template, expected in ((CHATML, ["TOK025"]), ("{{ bos_token }}" + CHATML, [])):
        tokenizer = plain.with_template(template)
        samples = [sample()]
        record = token_audit(
            Audited(tokenizer, "causal", "lora", "assistant", rows_of(samples, tokenizer), samples=samples)
        )
        assert [finding.id for finding in record.findings] == expected


def test_a_small_tokenizer_for_a_large_model_is_said(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    samples = [sample()]
    audited = Audited(tokenizer, "causal", "lora", "assistant", rows_of(samples, tokenizer), samples=samples)
    found = {rows: token_audit(replace(audited, embedding_rows=rows)).findings for rows in (320, 32_000)}
    assert not found[320] and [one.id for one in found[32_000]] == ["TOK027"]


def test_many_rows_are_read_evenly_and_every_bad_row_of_a_kind_is_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    samples = [sample(place=f"rows.jsonl:{n + 1}") for n in range(30)]
    rows = rows_of(samples, tokenizer)
    for n in (3, 17, 29):
        rows[n] = rows[n]._replace(weights=rows[n].weights * 0)
    record = token_audit(Audited(tokenizer, "causal", "lora", "assistant", rows, samples=samples))
    (found,) = [finding for finding in record.stops if finding.id == "TOK001"]
    assert found.num_rows == 3 and found.places == ("rows.jsonl:4", "rows.jsonl:18", "rows.jsonl:30")
    with pytest.raises(DataError) as error:
        check_tokens(record)
    assert {fault.line for fault in error.value.faults} == {4, 18, 30}


def test_left_out_rows_are_told_apart_where_all_stand_on_one_line(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    asks = [Message("user", f"What is number {n}?") for n in range(8)]
    samples = [
        Sample(id=str(n), messages=(ask, Message("assistant", "One.")), place="a:1") for n, ask in enumerate(asks)
    ]
    kept = [one for n, one in enumerate(samples) if n not in (2, 7)]
    audited = Audited(
        tokenizer,
        "causal",
        "lora",
        "assistant",
        rows_of(kept, tokenizer),
        samples=samples,
        dropped=["a:1"] * 2,
        num_dropped=2,
    )
    assert audited.aligned == kept
    assert token_audit(audited).num_read_rows == 6


def test_rows_without_their_samples_are_checked_as_far_as_that_goes(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    rows = rows_of([sample()], tokenizer)
    record = token_audit(Audited(tokenizer, "causal", "lora", "assistant", rows, samples=[]))
    assert set(record.not_checked) >= {"TOK040", "TOK041", "TOK042"} and "TOK001" in record.checked
    bad = [rows[0]._replace(weights=rows[0].weights * 0)]
    stops = token_audit(Audited(tokenizer, "causal", "lora", "assistant", bad)).stops
    assert stops[0].id == "TOK001" and stops[0].places == ("row 1",)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Co"]), min_size=1, max_size=40)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(TEXT.filter(str.strip), min_size=2, max_size=6).filter(lambda some: len(some) % 2 == 0))
def test_no_false_alarm_on_any_text(contents: list[str], byte_tokenizers: list[Tokenizer]) -> None:
    turns = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(contents)]
    for tokenizer in byte_tokenizers:
        one = Sample(id="1", messages=tuple(turns), place="rows.jsonl:1")
        try:
            rows = rows_of([one], tokenizer)
        except DataError:
            continue  # refused with the row, before the audit
        record = token_audit(Audited(tokenizer, "causal", "lora", "assistant", rows, samples=[one]))
        assert not record.stops


@pytest.fixture(scope="module")
def byte_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[Tokenizer]:
    """ChatML and foretune's plain form, with merges that join text across the borders of turns."""
    merges = (("Ċ", "Ċ"), (".", "<"), ("a", "b"), ("Ġ", "a"))
    folders = [tmp_path_factory.mktemp(str(n)) for n in range(2)]
    first = write_tokenizer(folders[0], merges=merges)
    second = write_tokenizer(folders[1], merges=merges, template=None, specials=("</s>",), eos_token="</s>")
    return [Tokenizer.from_folder(first), Tokenizer.from_folder(second)]


def test_token_texts_add_up_to_the_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    text = "Zürich 🙂 <|im_end|>\n"
    ids = tokenizer.encode(text)
    texts = token_texts(ids, tokenizer)
    assert "".join(texts) == text and texts[1] == "" and texts[2] == "ü"  # two bytes, shown once they are one character
    shown = shown_sample(ids * 20, [True] * len(ids) * 20, tokenizer)
    assert len(shown.tokens) == 140 and shown.hidden_after == 40 and shown.num_hidden_tokens == len(ids) * 20 - 140
    assert any(token.is_special for token in shown.tokens)
