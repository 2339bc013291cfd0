"""`foretune data tokens`: which tokens of a job or run carry loss, in colour, and what would stop it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from foretune.records.token_audit import ShownSample, ShownToken, TokenAuditRecord, TokenFinding
    from foretune.steps import Run

__all__ = ["TokenLines", "command", "findings_shown"]

OPEN, CLOSE = "⟦", "⟧"
STYLES = {"stop": "bold red", "warning": "yellow", "mended": "green"}
NEW_LINE = "↵\n"


def command(
    target: Annotated[str, typer.Argument(metavar="JOB|RUN", help="Job file, run id, or `latest`.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Show which tokens carry loss, and what training would refuse.

    Learned tokens are green, special tokens bold; without colour the learned
    ones stand between ⟦ and ⟧. Nothing is trained.

    \b
    Examples:
      foretune data tokens job.toml
      foretune data tokens latest --json
    """
    record = _record(target, runs_dir)
    document = {"command": "data tokens", "target": target, "token_audit": record.as_dict()}
    stops = bool(record.stops)
    then = f"foretune train {target}" if target.endswith(".toml") else f"foretune report {target}"
    return Answer(document, list(_shown(record)), next="" if stops else then, exit_code=3 if stops else 0)


def _record(target: str, runs_dir: Path) -> TokenAuditRecord:
    """What the run wrote before its first step, or the audit made now."""
    from foretune import journey
    from foretune.config import resolve_job
    from foretune.records.run import find_run
    from foretune.records.token_audit import TokenAuditRecord
    from foretune.steps import Run, create_job_run

    if not target.endswith(".toml"):
        run_dir = find_run(runs_dir, target)
        return TokenAuditRecord.read(run_dir) if TokenAuditRecord.exists(run_dir) else _audited(Run.open(run_dir))
    with tempfile.TemporaryDirectory(prefix="foretune-") as folder:
        run = Run.open(create_job_run(resolve_job(Path(target)), runs_dir=Path(folder)))
        journey.do_stage(run, "collect")
        return _audited(run)


def _audited(run: Run) -> TokenAuditRecord:
    from foretune.models.base import resolve_base
    from foretune.train.token_job import audit_job_tokens

    base = resolve_base(run.job.base, run.folder)
    return audit_job_tokens(run.job, base, run.split("train"), run.split("validation"))


def _shown(record: TokenAuditRecord) -> Iterator[Any]:
    from rich.markup import escape

    from foretune.cli.show import facts_table

    yield facts_table(_facts(record))
    for sample in record.samples:
        counts = f"{sample.num_tokens:,} tokens, {sample.num_loss_tokens:,} learned"
        yield f"\n[bold]{escape(sample.place)}[/] [dim]{counts}[/]"
        yield TokenLines(sample)
    yield ""
    yield from findings_shown(record.findings)
    for reason in dict.fromkeys(record.not_checked.values()):
        numbers = ", ".join(number for number, why in record.not_checked.items() if why == reason)
        yield f"[dim]not checked: {numbers}: {escape(reason)}[/]"


def _facts(record: TokenAuditRecord) -> dict[str, str]:
    specials = ", ".join(f"{token.role} {token.text} ({token.id})" for token in record.special_tokens)
    left_out = f", {record.num_dropped:,} left out" if record.num_dropped else ""
    return {
        "rows": f"{record.num_rows:,} to train on{left_out}, {record.num_validation_rows:,} to validate on",
        "tokens": f"{record.num_tokens:,}, {record.num_loss_tokens:,} learned ({record.loss_fraction:.1%})",
        "longest": f"{record.longest_row_tokens:,} tokens",
        "special": specials or "none",
        "template": f"{record.template_sha256[:12]}{'' if record.has_chat_template else ', foretunes plain form'}",
        "packing": record.packing,
    }


def findings_shown(findings: tuple[TokenFinding, ...]) -> Iterator[str]:
    """Each finding with its rows and what mends it; one line where there is none."""
    from rich.markup import escape

    for one in findings:
        rows = f" ({one.num_rows:,} rows)" if one.num_rows else ""
        yield f"[{STYLES[one.severity]}]{one.severity}[/] {one.id} {escape(one.title)}{rows}"
        yield f"  [dim]{escape(one.reason)}[/]"
        yield from (f"  {escape(line)}" for line in one.evidence[:2])
        if one.places:
            more = " …" if len(one.places) > 3 else ""
            yield f"  [dim]{escape(', '.join(one.places[:3]))}{more}[/]"
        if one.fix:
            yield f"  fix: {escape(one.fix)}"
    if not findings:
        yield "nothing found: what is learned is the answers, their ends included"


@dataclass(frozen=True)
class TokenLines:
    """A sample token by token: coloured where the console has colours, with marks where it has none."""

    sample: ShownSample

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol."""
        has_colour = console.color_system is not None and not console.no_color
        yield self._coloured() if has_colour else self._plain()

    def _plain(self) -> Any:
        """`question ⟦answer⟧`."""
        from rich.text import Text

        text, is_open = "", False
        for token in self._parts():
            trained = token is not None and token.is_trained
            if trained != is_open:
                text, is_open = text + (OPEN if trained else CLOSE), trained
            text += self._gap() if token is None else _visible(token)
        return Text(text + (CLOSE if is_open else ""), overflow="fold")

    def _coloured(self) -> Any:
        """Learned tokens green in two shades, so that each can be told from the next; the rest grey."""
        from rich.text import Text

        text = Text(overflow="fold")
        for number, token in enumerate(self._parts()):
            if token is None:
                text.append(self._gap(), style="italic dim")
                continue
            shade = ("black on green", "black on bright_green") if token.is_trained else ("dim", "")
            text.append(_visible(token), style=f"{shade[number % 2]}{' bold' if token.is_special else ''}".strip())
        return text

    def _parts(self) -> Iterator[ShownToken | None]:
        """The tokens, None where some are hidden."""
        for number, token in enumerate(self.sample.tokens):
            if self.sample.num_hidden_tokens and number == self.sample.hidden_after:
                yield None
            yield token

    def _gap(self) -> str:
        return f" … {self.sample.num_hidden_tokens:,} more … "


def _visible(token: ShownToken) -> str:
    return token.text.replace("\r", "").replace("\t", "→").replace("\n", NEW_LINE)


command.__name__ = "tokens"
