"""Articles gathered into one JSONL file, each URL once, with a cursor so that a killed run goes on where it stood."""

# SPDX-License-Identifier: Apache-2.0
#
# FOLDER/NAME.jsonl          one article a line; appended page by page, each page synced before the cursor moves
# FOLDER/.NAME.cursor.json   where the connector stands: hidden, so that nobody reads it as data
# FOLDER/source.NAME.jsonl.json  licence, share policy, time
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, final
from urllib.parse import parse_qsl, urlencode, urlsplit

from foretune.collect.appended import append_synced, whole_lines
from foretune.collect.sources import SourceCard, write_card
from foretune.errors import ConfigError, DataError
from foretune.records.base import write_atomically
from foretune.records.dataset import Provenance, SharePolicy
from foretune.records.lock import held_lock

__all__ = ["Article", "ArticleFile", "Collection", "article_row", "is_address", "url_key"]

TRACKING = ("utm_", "mc_", "pk_", "at_medium", "at_campaign")
TRACKING_NAMES = {
    "fbclid",
    "gclid",
    "dclid",
    "msclkid",
    "igshid",
    "cmpid",
    "ref",
    "ref_src",
    "smid",
    "ocid",
    "ns_mchannel",
}


class Article(NamedTuple):
    """What a news service says about one article; "" where it says nothing.

    `num_cut_chars` > 0 tells how much of `content` the service left out.
    """

    url: str
    title: str
    description: str = ""
    content: str = ""
    published_at: str = ""
    source_name: str = ""
    language: str = ""
    country: str = ""
    num_cut_chars: int = 0


class Collection(NamedTuple):
    """What a connector did: the file, its counts, and whether all was fetched that was asked for."""

    path: Path
    num_new: int
    num_total: int
    num_repeated: int
    num_skipped: int
    num_requests: int
    finished: bool
    notes: tuple[str, ...] = ()


def is_address(url: str) -> bool:
    """Whether this is a whole web address."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def url_key(url: str) -> str:
    """What makes a URL the same article: without scheme, `www.`, fragment, tracking parameters and closing slash."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").removeprefix("www.").rstrip(".")
    kept = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if not _is_tracking(key)]
    query = urlencode(sorted(kept))
    return f"{host}{parts.path.rstrip('/')}{'?' + query if query else ''}"


def _is_tracking(name: str) -> bool:
    return name.lower() in TRACKING_NAMES or name.lower().startswith(TRACKING)


def article_row(
    article: Article, *, service: str, licence: str, share: SharePolicy, retrieved_at: str, raw: Mapping[str, Any]
) -> dict[str, Any]:
    """The article as a row: `text` is what there is to read, `provenance.sha256` is of what the service sent."""
    text = "\n\n".join(part for part in (article.title, article.description or article.content) if part)
    provenance = Provenance(
        source=f"{service}: {article.source_name}" if article.source_name else service,
        licence=licence,
        retrieved_at=retrieved_at,
        sha256=hashlib.sha256(
            json.dumps(raw, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
        ).hexdigest(),
        share=share,
        url=article.url,
    )
    fields = {name: value for name, value in article._asdict().items() if value}
    name = hashlib.sha256(url_key(article.url).encode("utf-8", "replace")).hexdigest()[:16]
    return {"id": name, "text": text, **fields, "provenance": provenance.model_dump()}


@final
class ArticleFile:
    """The file that a connector appends to, the URLs in it, and the connector's cursor; one run at a time has it.

    `with` writes the card at the end, also of a run that failed. Raises DataError where the cursor belongs to another
    query, so that two queries never share a file, and ConfigError while another run collects into it.
    """

    def __init__(self, folder: str | Path, name: str, key: str, card: Callable[[], SourceCard]) -> None:
        self.path = Path(folder) / f"{name}.jsonl"
        self._cursor_path = Path(folder) / f".{name}.cursor.json"
        self._key = key
        self._card = card
        self._held = ExitStack()
        self._lock_path = Path(folder) / f".{name}.lock"
        self._seen: set[str] = set()
        self.cursor: dict[str, Any] = {}
        self.num_new = 0
        self.num_repeated = 0

    def __enter__(self) -> ArticleFile:
        folder = self._lock_path.parent
        fix = "wait until it is done, or collect into another folder"
        busy = ConfigError(f"another run is collecting into {folder}", fix=fix)
        self._held.enter_context(held_lock(self._lock_path, busy=lambda pid: busy))
        try:
            self._seen = set(self._urls_on_disk())
            self.cursor = self._read_cursor()
        except DataError:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            if self.path.is_file():
                write_card(self.path, self._card())

    @property
    def num_total(self) -> int:
        """Articles in the file."""
        return len(self._seen)

    def _urls_on_disk(self) -> Iterable[str]:
        """Keys of the articles in the file; a last line that a killed run left half written is cut off."""
        for number, line in enumerate(whole_lines(self.path), start=1):
            try:
                yield url_key(json.loads(line)["url"])
            except (ValueError, KeyError, TypeError, AttributeError):
                fix = f"take the line out, or begin anew: rm {self.path} {self._cursor_path}"
                raise DataError(f"{self.path}:{number}: not an article that foretune wrote", fix=fix) from None

    def _read_cursor(self) -> dict[str, Any]:
        try:
            value = json.loads(self._cursor_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            return {}  # begun anew: every article that is there already is known by its URL
        if not isinstance(value, dict) or value.get("key") == self._key:
            return value if isinstance(value, dict) else {}
        fix = "collect into another folder or under another name, or use the query that was begun"
        raise DataError(f"{self.path} was collected by another query ({value.get('key')})", fix=fix)

    def append(self, rows: Iterable[dict[str, Any]]) -> int:
        """Write the rows whose URL is new, sync them, and return how many those are. Raises DoesNotFit."""
        fresh = []
        for row in rows:
            key = url_key(row["url"])
            if key in self._seen:
                self.num_repeated += 1
                continue
            self._seen.add(key)
            fresh.append(row)
        append_synced(self.path, fresh)
        self.num_new += len(fresh)
        return len(fresh)

    def move(self, **position: Any) -> None:
        """Set and keep the cursor. Raises DoesNotFit."""
        self.cursor = {**self.cursor, **position, "key": self._key}
        write_atomically(self._cursor_path, json.dumps(self.cursor, indent=2) + "\n")
