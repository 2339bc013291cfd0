"""The report's section on tokens, parity and failure: escaped, complete, and absent where there is no record."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.records.parity import FormParity, ParityRecord
from foretune.records.post_mortem import PostMortemRecord
from foretune.records.token_audit import ShownSample, ShownToken, SpecialToken, TokenAuditRecord, TokenFinding
from foretune.ui.report import environment
from foretune.ui.tokens import parity_view, post_mortem_view, tokens_view


def audit(folder: Path) -> TokenAuditRecord:
    shown = [("<b>Hi</b>\n", False, False), ("Yes & no", True, False), ("</s>", True, True)]
    record = TokenAuditRecord(
        method="lora",
        kind="causal",
        train_on="assistant",
        tokenizer_sha256="0" * 64,
        template_sha256="abcdef0123456789",
        has_chat_template=True,
        special_tokens=(SpecialToken(role="stop", id=7, text="</s>"),),
        pad_is_eos=False,
        num_rows=1200,
        num_validation_rows=10,
        num_dropped=3,
        num_tokens=4000,
        num_loss_tokens=1000,
        longest_row_tokens=80,
        packing="alone",
        num_read_rows=1200,
        findings=(
            TokenFinding(
                id="TOK024",
                severity="warning",
                title="a <title>",
                reason="why",
                fix="mend",
                places=("a:1",),
                num_rows=1,
            ),
        ),
        not_checked={"TOK003": "unknown", "TOK027": "unknown"},
        samples=(
            ShownSample(
                place="rows.jsonl:1",
                num_tokens=30,
                num_loss_tokens=2,
                hidden_after=1,
                num_hidden_tokens=27,
                tokens=tuple(
                    ShownToken(id=i, text=text, is_trained=trained, is_special=special)
                    for i, (text, trained, special) in enumerate(shown)
                ),
            ),
        ),
    )
    record.write(folder)
    return record


def rendered(folder: Path) -> str:
    views = {
        "tokens": tokens_view(folder),
        "parity": parity_view(folder),
        "post_mortem": post_mortem_view(folder),
    }
    return environment().get_template("_tokens.html.j2").render(**views)


def test_nothing_is_shown_where_there_is_nothing(tmp_path: Path) -> None:
    assert "<section" not in rendered(tmp_path)
    (tmp_path / "parity.json").write_text("{}")  # of another version
    assert "<section" not in rendered(tmp_path)


def test_tokens_are_escaped_and_marked(tmp_path: Path) -> None:
    audit(tmp_path)
    page = rendered(tmp_path)
    assert "&lt;b&gt;Hi&lt;/b&gt;↵" in page and "<b>Hi" not in page and "a &lt;title&gt;" in page
    assert '<span class="t" title="1">Yes &amp; no</span>' in page
    assert '<span class="t s" title="2">&lt;/s&gt;</span>' in page and "27 more" in page
    assert "1,000 (25 %)" in page and "TOK003, TOK027: unknown" in page and "TOK024" in page


def test_the_gate_and_the_failure_are_told(tmp_path: Path) -> None:
    forms = [("reloaded", 0.0, True), ("int8", 0.4, False)]
    ParityRecord(
        artefact="adapter",
        num_prompts=4,
        num_positions=200,
        is_active=True,
        base_max_kl_nats=1.25,
        base_max_logit_change=3.0,
        forms=tuple(
            FormParity(form=form, max_kl_nats=kl, mean_kl_nats=kl, greedy_agreement=1.0, bound_nats=0.01, holds=holds)
            for form, kl, holds in forms
        ),
        template_sha256="a",
        is_template_equal=True,
        problems=("a <problem>",),
    ).write(tmp_path)
    PostMortemRecord(
        run_id="tickets-001",
        cause="killed",
        certainty="likely",
        title="The process was killed",
        explanation="Without a word.",
        evidence=("log: <x>",),
        fixes=("less",),
        last_step=6,
        planned_steps=20,
        last_checkpoint_step=4,
        can_resume=True,
    ).write(tmp_path)
    page = rendered(tmp_path)
    assert "Read back from the disk" in page and "Packed into 8 bits" in page and "missed" in page
    assert "up to 1.25 nats" in page and "a &lt;problem&gt;" in page
    assert "checkpoint at step 4" in page and "foretune runs resume tickets-001" in page and "log: &lt;x&gt;" in page
    assert "likely cause" in page
