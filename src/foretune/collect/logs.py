"""Production request logs as samples: our gateway's, OpenAI-style requests and responses, Langfuse exports."""

# SPDX-License-Identifier: Apache-2.0
#
# Langfuse: JSON or JSONL of observations, snake_case (blob storage export) or camelCase (API, `trace-ID.json`), as in
# langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields, read 2026-11-21.
from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from foretune.collect.log_shapes import Exchange, Feedback, exchange_of, feedback_of
from foretune.collect.sources import SourceCard, file_time, write_card
from foretune.data.faults import FaultList, short
from foretune.data.files import DataFile, kind_of
from foretune.data.formats import read_samples
from foretune.data.provenance import with_provenance
from foretune.data.rows import Row, read_rows
from foretune.data.samples import Message, Sample, content_key
from foretune.errors import ConfigError, DataError, Fault, NotFound
from foretune.records.base import write_atomically
from foretune.records.dataset import Provenance

__all__ = [
    "Choice",
    "LogData",
    "LogPolicy",
    "Pii",
    "add_sample",
    "log_policy",
    "logged_sample",
    "preference_rows",
    "read_log",
    "write_log",
    "write_samples",
]

Pii = Literal["keep", "redact", "drop"]
Choice = Literal["all", "liked", "corrected"]
Redact = Callable[[str], str]
LICENCE = "your own users' data: your terms and privacy notice decide"


@dataclass(frozen=True, slots=True)
class LogData:
    """What a log holds: samples, and every query, also of failed requests.

    `pairs` are the corrected answers as preferences (`rejected` ends in the old answer), `judged` the rated ones
    (`desirable`). `left_out` counts rows by reason; `faults` are rows that could not be read: the good ones go on.
    """

    samples: tuple[Sample, ...]
    pairs: tuple[Sample, ...]
    judged: tuple[Sample, ...]
    queries: tuple[str, ...]
    kinds: dict[str, int]
    left_out: dict[str, int]
    faults: tuple[Fault, ...]


class _Policy(NamedTuple):
    pii: Pii
    redact: Redact | None
    choice: Choice


def read_log(
    path: str | Path,
    *,
    pii: Pii = "keep",
    redact: Redact | None = None,
    choice: Choice = "all",
    source: str = "",
) -> LogData:
    """Samples of a request log; the kind of each row is told from its fields.

    Left out, and counted: failed requests, answers that are empty or were cut off, repeats of one request id. A
    correction takes the place of the answer. An answer with a bad rating and no correction is no sample to learn.
    `pii`: `keep` marks samples unreviewed, `redact` puts `redact(text)` in place of every text, `drop` leaves out
    what `redact` would change. Raises NotFound, ConfigError, and DataError where no row is a request.
    """
    file = _log_file(Path(path))
    if pii != "keep" and redact is None:
        raise ConfigError(f"pii = {pii!r} needs a function that redacts", fix='pii = "keep", or name the detector')
    found = FaultList(file.path)
    left_out: Counter[str] = Counter()
    exchanges, feedback = _read(file, found, left_out)
    if not exchanges:
        fix = 'expected lines such as {"request": {"messages": [...]}, "response": {"choices": [...]}}'
        raise DataError(
            f"{file.path}: no requests in it ({len(found.faults)} faults)", fix=fix, faults=tuple(found.faults)
        )
    provenance = Provenance(
        source=source or f"log: {file.path.name}",
        licence=LICENCE,
        retrieved_at=file_time(file.path),
        sha256="",
        share="internal",
    )
    policy = _Policy(pii, redact, choice)
    found_samples = list(_samples(exchanges, feedback, policy, provenance, left_out))
    queries = [_shown(exchange.query, policy) for exchange in exchanges if exchange.query]
    if pii == "drop" and redact is not None:
        queries = [text for text in queries if redact(text) == text]
    liked = [sample for sample in found_samples if sample.desirable is not False]
    if len(liked) < len(found_samples):
        left_out["was disliked, and not corrected"] = len(found_samples) - len(liked)
    return LogData(
        samples=tuple(replace(sample, rejected=(), desirable=None) for sample in liked),
        pairs=tuple(replace(sample, desirable=None) for sample in found_samples if sample.rejected),
        judged=tuple(sample for sample in found_samples if sample.desirable is not None and not sample.rejected),
        queries=tuple(queries),
        kinds=dict(Counter(exchange.kind for exchange in exchanges)),
        left_out=dict(left_out),
        faults=tuple(found.faults),
    )


def logged_sample(
    path: str | Path, name: str, *, answer: str = "", pii: Pii = "keep", redact: Redact | None = None
) -> Sample:
    """One logged request as a sample: with `answer` in place of what was answered, else its correction, else that.

    A failed, empty or disliked answer is no sample unless a better one is given. Raises NotFound for an unknown id,
    ConfigError, and DataError where there is nothing to learn from it.
    """
    file = _log_file(Path(path))
    found = FaultList(file.path)
    exchanges, feedback = _read(file, found, Counter())
    exchange = next((one for one in exchanges if one.id == name), None)
    if exchange is None:
        close = difflib.get_close_matches(name, [one.id for one in exchanges], n=1)
        hint = f"did you mean {close[0]}?" if close else f"the log holds {len(exchanges)} requests"
        raise NotFound(f"no request {name} in {path}", fix=hint)
    said = feedback.get(exchange.id) or feedback.get(exchange.trace) or Feedback(exchange.id)
    if answer:
        said = said._replace(correction=answer)
    reason = _reason_against(exchange, said, "all") or (
        "was disliked" if said.rating < 0 and not said.correction else ""
    )
    if reason:
        raise DataError(f"request {name} {reason}, so there is no answer to learn", fix='--answer "the right answer"')
    sample = replace(_sample(exchange, said), rejected=(), desirable=None)
    if redact is not None and pii != "keep":
        clean = _redacted(sample, redact)
        if pii == "drop" and clean != sample:
            raise DataError(f"request {name} holds personal data", fix="--pii redact")
        sample = replace(clean, meta={**clean.meta, "pii": "redacted"})
    origin = Provenance(
        source=f"log: {file.path.name}", licence=LICENCE, retrieved_at=file_time(file.path), sha256=exchange.sha256
    )
    return with_provenance(sample, origin)


def add_sample(sample: Sample, dataset: str | Path) -> int:
    """Append a sample to a JSONL data set, made with its card if there is none; how many rows it has then.

    Raises ConfigError for another kind of file, and for a row that is in it already.
    """
    target = Path(dataset)
    if target.suffix != ".jsonl":
        raise ConfigError(f"{target}: rows can be added to a .jsonl file", fix=f"{target.with_suffix('.jsonl')}")
    rows = read_samples(target, task="any").samples if target.exists() else []
    if any(row.id == sample.id or content_key(row) == content_key(sample) for row in rows):
        raise ConfigError(f"{target} has request {sample.id} already", fix="nothing to do")
    before = target.read_bytes() if target.exists() else b""
    gap = b"" if before.endswith(b"\n") or not before else b"\n"
    line = json.dumps(_row(sample), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    write_atomically(target, before + gap + line)
    if not before:
        write_card(target, SourceCard(kind="log", name="added from logged requests", licence=LICENCE, share="internal"))
    return len(rows) + 1


def _log_file(path: Path) -> DataFile:
    if not path.is_file():
        raise NotFound(f"no log {path}", fix="give the file that the gateway or the export wrote")
    kind = kind_of(path)
    return DataFile(path, kind if kind in ("jsonl", "json", "csv", "parquet") else "jsonl")


def _read(file: DataFile, faults: FaultList, left_out: Counter[str]) -> tuple[list[Exchange], dict[str, Feedback]]:
    exchanges: dict[str, Exchange] = {}
    feedback: dict[str, Feedback] = {}
    for row in _rows(file, faults):
        said = feedback_of(row.fields)
        if said is not None:
            feedback[said.id] = said.after(feedback.get(said.id))
            continue
        exchange = exchange_of(row.fields)
        if exchange is None:
            if _is_other(row.fields):
                left_out["not a request (span, event or trace)"] += 1
                continue
            expected = "request and response, or an observation of type GENERATION"
            faults.add(row.line, "not a request", value=short(list(row.fields)), expected=expected)
            continue
        name = exchange.id or f"{file.path.stem}-{row.line}"
        exchange = exchange._replace(id=name, place=f"{file.path.name}:{row.line}", sha256=_hash(row.fields))
        known = exchanges.get(name)
        if known is not None:
            left_out["repeats a request id"] += not known.lacks_half(exchange)
            exchange = known.merged(exchange)
        exchanges[name] = exchange
    return list(exchanges.values()), feedback


def _rows(file: DataFile, faults: FaultList) -> Iterator[Row]:
    """Rows of the file; a Langfuse trace file (`{"trace", "observations", "scores"}`) is taken apart."""
    if file.kind == "json":
        value = _whole(file.path)
        if isinstance(value, dict) and isinstance(value.get("observations"), list):
            parts = [*value["observations"], *(value.get("scores") or [])]
            yield from (Row(number, part) for number, part in enumerate(parts, start=1) if isinstance(part, dict))
            return
    yield from read_rows(file, faults)


def _whole(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError):
        return None


def _is_other(fields: Mapping[str, Any]) -> bool:
    return str(fields.get("type", "")).upper() in ("SPAN", "EVENT", "TRACE", "TOOL", "RETRIEVER", "CHAIN", "AGENT")


def _hash(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _samples(
    exchanges: Sequence[Exchange],
    feedback: Mapping[str, Feedback],
    policy: _Policy,
    provenance: Provenance,
    left_out: Counter[str],
) -> Iterator[Sample]:
    for exchange in exchanges:
        said = feedback.get(exchange.id) or feedback.get(exchange.trace) or Feedback(exchange.id)
        reason = _reason_against(exchange, said, policy.choice)
        sample = None if reason else _sample(exchange, said)
        if sample is not None and policy.redact is not None:
            clean = _redacted(sample, policy.redact)
            is_clean = clean == sample
            if policy.pii == "drop" and not is_clean:
                reason, sample = "holds personal data", None
            elif policy.pii == "redact":
                sample = replace(clean, meta={**clean.meta, "pii": "redacted"})
        if sample is None:
            left_out[reason] += 1
            continue
        yield with_provenance(sample, provenance.model_copy(update={"sha256": exchange.sha256}))


def _reason_against(exchange: Exchange, said: Feedback, choice: Choice) -> str:
    """Why an exchange is no sample; "" if it is one."""
    if not exchange.messages:
        return "has no messages"
    if choice == "corrected" and not said.correction:
        return "was not corrected"
    if said.correction:
        return ""
    if choice == "liked" and said.rating <= 0:
        return "was not liked"
    if exchange.status and not 200 <= exchange.status < 300:
        return "failed"
    if not exchange.answer.strip() and not exchange.calls:
        return "has no answer"
    return "was cut off" if exchange.finish_reason in ("length", "content_filter", "max_tokens") else ""


def _sample(exchange: Exchange, said: Feedback) -> Sample:
    fields = {
        "model": exchange.model,
        "time": exchange.time,
        "rating": said.rating,
        "comment": said.comment,
        "pii": exchange.pii,
    }
    is_corrected = bool(said.correction) and said.correction != exchange.answer
    last = Message("assistant", said.correction) if is_corrected else exchange.reply
    return Sample(
        id=exchange.id,
        messages=(*exchange.messages, last),
        group=exchange.session,
        place=exchange.place,
        meta={name: value for name, value in fields.items() if value},
        tools=exchange.tools,
        rejected=(*exchange.messages, exchange.reply) if is_corrected and exchange.answer.strip() else (),
        desirable=said.rating > 0 if said.rating and not is_corrected else None,
    )


def _redacted(sample: Sample, redact: Redact) -> Sample:
    """The sample with every text put through `redact`: messages, tool calls and results, comments."""
    comment = {"comment": redact(sample.meta["comment"])} if "comment" in sample.meta else {}
    return replace(
        sample,
        messages=tuple(_clean(message, redact) for message in sample.messages),
        rejected=tuple(_clean(message, redact) for message in sample.rejected),
        meta={**sample.meta, **comment},
    )


def _clean(message: Message, redact: Redact) -> Message:
    extra = json.dumps(_walked(json.loads(message.extra), redact), ensure_ascii=False) if message.extra else ""
    return replace(message, content=redact(message.content), extra=extra)


def _walked(value: Any, redact: Redact) -> Any:
    """A JSON value with every text in it put through `redact`; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_walked(item, redact) for item in value]
    return {key: _walked(item, redact) for key, item in value.items()} if isinstance(value, dict) else value


def _shown(text: str, policy: _Policy) -> str:
    return policy.redact(text) if policy.redact is not None and policy.pii == "redact" else text


def preference_rows(pairs: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """Preference samples as rows: `prompt`, `chosen` and `rejected`, each a list of messages, and `provenance`."""
    for sample in pairs:
        num = len(sample.prompt)
        parts = {"prompt": sample.prompt, "chosen": sample.messages[num:], "rejected": sample.rejected[num:]}
        row: dict[str, Any] = {name: [message.to_json() for message in part] for name, part in parts.items()}
        yield {"id": sample.id, **row, **sample.meta}


def write_samples(samples: Iterable[Sample], path: str | Path, card: SourceCard) -> Path:
    """Write samples as JSONL that `collect` reads, with their source card beside it: chats, texts or preferences.

    Raises DoesNotFit.
    """
    target = Path(path)
    lines = (json.dumps(_row(sample), ensure_ascii=False) + "\n" for sample in samples)
    write_atomically(target, "".join(lines).encode("utf-8", "replace"))
    write_card(target, card)
    return target


class LogPolicy(NamedTuple):
    """What becomes of personal data, and which answers are samples."""

    pii: Pii
    choice: Choice


def log_policy(pii: str, choice: str) -> LogPolicy:
    """The policy of these names. Raises ConfigError with the names that exist."""
    for name, value, known in (("--pii", pii, get_args(Pii)), ("--choice", choice, get_args(Choice))):
        if value not in known:
            raise ConfigError(f"{name} {value}: expected one of {', '.join(known)}", fix=f"{name} {known[0]}")
    return LogPolicy(cast(Pii, pii), cast(Choice, choice))


def write_log(data: LogData, path: str | Path, log: str | Path) -> Path:
    """Write the samples of a log as JSONL with a card that names it. Raises DoesNotFit."""
    name = Path(log).name
    card = SourceCard(name=f"log: {name}", licence=LICENCE, retrieved_at=file_time(Path(log)), share="internal")
    return write_samples(data.samples, path, card)


def _row(sample: Sample) -> dict[str, Any]:
    if sample.rejected:
        return next(preference_rows([sample]))
    row = sample.to_json()
    row.pop("place", None)
    return {**row.pop("meta", {}), **row}
