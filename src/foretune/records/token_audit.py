"""`token_audit.json`: which tokens carry loss, and what would make a run learn the wrong thing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from foretune.records.base import Record

__all__ = ["ShownSample", "ShownToken", "SpecialToken", "TokenAuditRecord", "TokenFinding", "TokenSeverity"]

TokenSeverity = Literal["mended", "warning", "stop"]


class TokenFinding(BaseModel):
    """One fault of what training would see. `stop` ends the run before its first step; `mended` was put right here.

    `places` are at most 20 of the `num_rows` rows, `reason` what the fault does to the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str  # TOK004
    severity: TokenSeverity
    title: str
    reason: str
    num_rows: int = 0
    places: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    fix: str = ""


class SpecialToken(BaseModel):
    """A token with a role: bos, eos, pad, unk, or stop (there may be several)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: str
    id: int
    text: str


class ShownToken(BaseModel):
    """One token as the model sees it; `text` is "" where it is only part of a character."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: int
    text: str
    is_trained: bool
    is_special: bool = False


class ShownSample(BaseModel):
    """One training row, token by token; `num_hidden_tokens` stand between the first `hidden_after` and the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    place: str
    num_tokens: int
    num_loss_tokens: int
    tokens: tuple[ShownToken, ...]
    hidden_after: int = 0
    num_hidden_tokens: int = 0


class TokenAuditRecord(Record):
    """What training sees, counted and checked before the first step; findings that stop it come first."""

    file_name: ClassVar[str] = "token_audit.json"
    method: str
    kind: str  # causal, seq2seq, classify, regress
    train_on: str
    tokenizer_sha256: str  # of its files and the chat template
    template_sha256: str  # of the chat template alone, foretune's plain form where the model has none
    has_chat_template: bool
    special_tokens: tuple[SpecialToken, ...]
    pad_is_eos: bool
    num_rows: int
    num_validation_rows: int
    num_dropped: int
    num_tokens: int
    num_loss_tokens: int
    longest_row_tokens: int
    packing: str  # how rows share memory, in words
    num_read_rows: int  # rows that were also held against their sample, text against text
    findings: tuple[TokenFinding, ...] = ()
    checked: tuple[str, ...] = ()  # ids of the checks that could be made
    not_checked: dict[str, str] = Field(default_factory=dict)  # id -> why not
    samples: tuple[ShownSample, ...] = ()
    template: str | None = None  # the chat template itself, foretune's plain form where the model has none
    # Of up to 2,000 rows, those whose learned tokens end the answer, lack the end of the target, begin in the prompt;
    # None where that does not apply or rows and samples are not one to one.
    ended_fraction: float | None = None
    truncated_fraction: float | None = None
    prompt_loss_fraction: float | None = None

    @property
    def loss_fraction(self) -> float:
        """Share of the tokens that carry loss."""
        return self.num_loss_tokens / max(1, self.num_tokens)

    @property
    def stops(self) -> tuple[TokenFinding, ...]:
        """The findings that end the run before its first step."""
        return tuple(finding for finding in self.findings if finding.severity == "stop")
