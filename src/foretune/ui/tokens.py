"""What training saw and what it left, for the report: coloured tokens, findings, the parity gate, the post-mortem."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup, escape

from foretune.errors import DataError
from foretune.records.base import Record
from foretune.records.parity import FormParity, ParityRecord
from foretune.records.post_mortem import PostMortemRecord
from foretune.records.token_audit import ShownSample, TokenAuditRecord, TokenFinding
from foretune.ui.words import plural

__all__ = ["ParityView", "PostMortemView", "TokensView", "parity_view", "post_mortem_view", "tokens_view"]

R = TypeVar("R", bound=Record)
FORMS = {
    "reloaded": "Read back from the disk",
    "merged": "Adapter merged into the weights",
    "int8": "Packed into 8 bits",
}


@dataclass(frozen=True)
class TokensView:
    """The token audit as the template lays it out."""

    facts: tuple[tuple[str, str], ...]
    findings: tuple[TokenFinding, ...]
    samples: tuple[tuple[str, str, Markup], ...]  # place, counts, tokens
    not_checked: tuple[str, ...]


@dataclass(frozen=True)
class ParityView:
    """The parity gate: one row a form, and the facts beside it."""

    rows: tuple[tuple[FormParity, str, str], ...]  # form, name, class of its mark
    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    not_checked: tuple[str, ...]


@dataclass(frozen=True)
class PostMortemView:
    """Why the run failed."""

    record: PostMortemRecord
    where: str
    command: str


def _read(kind: type[R], run_dir: Path) -> R | None:
    """A record that may be missing or of another version: the report goes without it."""
    try:
        return kind.read(run_dir) if kind.exists(run_dir) else None
    except DataError:
        return None


def tokens_view(run_dir: Path) -> TokensView | None:
    """The audit before the first step; None where there was none."""
    record = _read(TokenAuditRecord, run_dir)
    if record is None:
        return None
    return TokensView(
        facts=tuple(_token_facts(record)),
        findings=record.findings,
        samples=tuple((sample.place, _counts(sample), _coloured(sample)) for sample in record.samples),
        not_checked=tuple(_reasons(record.not_checked)),
    )


def _token_facts(record: TokenAuditRecord) -> Iterator[tuple[str, str]]:
    yield "Rows", f"{record.num_rows:,}"
    if record.num_dropped:
        yield "Left out, too long", f"{record.num_dropped:,}"
    yield "Tokens", f"{record.num_tokens:,}"
    yield "Tokens with loss", f"{record.num_loss_tokens:,} ({100 * record.loss_fraction:.0f} %)"
    stops = [token for token in record.special_tokens if token.role == "stop"]
    yield "Ends of answers", ", ".join(f"{token.text} ({token.id})" for token in stops) or "none"
    yield "Chat template", record.template_sha256[:12] if record.has_chat_template else "foretune’s plain form"
    yield "Samples together", record.packing


def _counts(sample: ShownSample) -> str:
    return f"{plural(sample.num_tokens, 'token')}, {sample.num_loss_tokens:,} with loss"


def _coloured(sample: ShownSample) -> Markup:
    """Each token in a box of its own; learned ones marked by colour and by a line below, for those who see none."""
    parts: list[Markup] = []
    for number, token in enumerate(sample.tokens):
        if sample.num_hidden_tokens and number == sample.hidden_after:
            parts.append(Markup("<i>… {:,} more …</i>").format(sample.num_hidden_tokens))
        names = " ".join(name for name, is_so in (("t", token.is_trained), ("s", token.is_special)) if is_so)
        text = str(escape(token.text)).replace("\n", "↵<wbr>\n")
        parts.append(Markup('<span class="{}" title="{}">{}</span>').format(names or "p", token.id, Markup(text)))
    return Markup("").join(parts)


def _reasons(not_checked: dict[str, str]) -> Iterator[str]:
    for reason in dict.fromkeys(not_checked.values()):
        names = ", ".join(name for name, why in not_checked.items() if why == reason)
        yield f"{names}: {reason}"


def parity_view(run_dir: Path) -> ParityView | None:
    """The gate after training; None where there was none."""
    record = _read(ParityRecord, run_dir)
    if record is None:
        return None
    return ParityView(
        rows=tuple(
            (form, FORMS.get(form.form, form.form), "held" if form.holds else "missed") for form in record.forms
        ),
        facts=tuple(_parity_facts(record)),
        problems=record.problems,
        not_checked=tuple(_reasons(record.not_checked)),
    )


def _parity_facts(record: ParityRecord) -> Iterator[tuple[str, str]]:
    yield "Compared on", f"{plural(record.num_prompts, 'prompt')}, {plural(record.num_positions, 'position')}"
    if record.base_max_kl_nats is not None:
        active = "differs" if record.is_active else "does not differ"
        yield "From the base", f"{active}: up to {record.base_max_kl_nats:.3g} nats of KL"
    yield "Chat template", "that of training" if record.is_template_equal else "not that of training"
    yield "Special tokens", "those of training" if record.are_special_ids_equal else "not those of training"
    yield "Numbers", "all finite" if record.is_finite else "some are not finite"


def post_mortem_view(run_dir: Path) -> PostMortemView | None:
    """Why the run failed; None where it did not."""
    record = _read(PostMortemRecord, run_dir)
    if record is None:
        return None
    saved = record.last_checkpoint_step
    kept = "without a checkpoint" if saved is None else f"with a checkpoint at step {saved:,}"
    where = f"It ended at step {record.last_step:,} of {record.planned_steps:,}, {kept}."
    verb = f"runs resume {record.run_id}" if record.can_resume else f"runs why {record.run_id} --out next.toml"
    return PostMortemView(record, where, f"foretune {verb}")
