"""Polite reading of web services: one request at a time, spaced, retried, and bounded in size."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import email.utils
import importlib
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol, final

from foretune.errors import ConfigError, MissingDependency, ServeError

__all__ = ["Answer", "Clock", "Fetcher", "RateLimited", "SystemClock", "parsed_object", "plain_words", "stamp"]

MAX_BODY_BYTES = 20_000_000
MAX_WAIT_SECONDS = 900  # a server that asks for more is told to the user instead of waited for
FIRST_WAIT_SECONDS = 2.0
ESCAPE = re.compile(r'\\(["\\/bfnrtu])|\\')
USER_AGENT = "foretune (data collection)"


class Clock(Protocol):
    """Time as the connectors see it, so that tests need not wait."""

    def now(self) -> datetime:
        """The time in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@final
class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def stamp(moment: datetime) -> str:
    """A time as ISO 8601 in UTC to the second: `2026-11-21T04:30:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RateLimited(ServeError):
    """The service still says that we ask too much after all tries."""


class Answer(NamedTuple):
    """What a service sent: status, headers in lower case, and its body as text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_html(self) -> bool:
        """Whether this is a page for people, whatever the status says."""
        head = self.text[:200].lstrip().lower()
        return "text/html" in self.headers.get("content-type", "") or head.startswith(("<!doctype", "<html"))


Judge = Callable[[Answer], str]  # "" = take it, else why to ask again; raises for what no retry mends


def _httpx() -> Any:
    """The httpx package, or its successor under the same interface."""
    for name in ("httpx", "httpx2"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDependency("collecting from the web needs httpx", fix="pip install 'foretune[collect]'")


@final
class Fetcher:
    """Requests to one service, at least `min_interval_seconds` apart, each tried at most `max_tries` times."""

    def __init__(
        self,
        service: str,
        *,
        clock: Clock | None = None,
        min_interval_seconds: float = 0.0,
        max_tries: int = 5,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._httpx = _httpx()
        self._client = self._httpx.Client(
            timeout=timeout_seconds, headers={"user-agent": USER_AGENT}, follow_redirects=False
        )
        self.service = service
        self.clock = clock or SystemClock()
        self.num_requests = 0
        self._interval = min_interval_seconds
        self._max_tries = max_tries
        self._ready_at = 0.0

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str], judge: Judge) -> Answer:
        """The answer to a GET that `judge` takes.

        Lost connections, truncated bodies and what `judge` does not take are tried again, as late as `Retry-After`
        says, else after 2, 4, 8 ... seconds. Raises RateLimited, ServeError, and what `judge` raises.
        """
        return self._asked(partial(self._once, "GET", url, params=params, headers=headers), judge)

    def post(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str], judge: Judge) -> Answer:
        """The answer to a POST of a JSON body that `judge` takes; tried again as `get` is."""
        return self._asked(partial(self._once, "POST", url, json=dict(body), headers=headers), judge)

    def _asked(self, once: Callable[[], Answer], judge: Judge) -> Answer:
        reason, was_limited = "", False
        for attempt in range(self._max_tries):
            if attempt:
                self._ready_at = max(self._ready_at, self.clock.monotonic() + FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
            self._wait()
            try:
                answer = once()
            except self._httpx.RequestError as error:
                reason, was_limited = _told(error), False
                continue
            reason = judge(answer)
            if not reason:
                return answer
            was_limited = answer.status == 429 or reason.startswith("rate limit")
            self._defer(answer)
        kind = RateLimited if was_limited else ServeError
        fix = "run the same command again later: it goes on where it stopped"
        raise kind(f"{self.service} does not answer as it should after {self._max_tries} tries: {reason}", fix=fix)

    def _wait(self) -> None:
        seconds = self._ready_at - self.clock.monotonic()
        if seconds > 0:
            self.clock.sleep(seconds)
        self._ready_at = self.clock.monotonic() + self._interval

    def _once(self, method: str, url: str, **request: Any) -> Answer:
        self.num_requests += 1
        body = bytearray()
        try:
            with self._client.stream(method, url, **request) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise ServeError(f"{self.service} sent more than {MAX_BODY_BYTES / 1e6:.0f} MB in one answer")
                lowered = {key.lower(): value for key, value in response.headers.items()}
                return Answer(response.status_code, lowered, body.decode("utf-8-sig", "replace"))
        except self._httpx.InvalidURL as error:
            raise ConfigError(f"{url!r} is no address: {error}", fix="write it as https://host/path") from None

    def _defer(self, answer: Answer) -> None:
        """Heed `Retry-After`. Raises RateLimited where it asks for more than a quarter of an hour."""
        asked = _seconds_asked(answer.headers.get("retry-after", ""), self.clock.now())
        if asked > MAX_WAIT_SECONDS:
            fix = f"run the same command again in {asked / 60:.0f} minutes: it goes on where it stopped"
            raise RateLimited(f"{self.service} asks to wait {asked:.0f} s", fix=fix)
        self._ready_at = max(self._ready_at, self.clock.monotonic() + asked)


def _told(error: Exception) -> str:
    name = type(error).__name__
    words = {
        "RemoteProtocolError": "the answer was cut off",
        "DecodingError": "the answer cannot be unpacked",
        "ConnectError": "no connection",
    }
    return f"{words.get(name, name)} ({str(error)[:120]})" if str(error) else words.get(name, name)


def _seconds_asked(value: str, now: datetime) -> float:
    """Seconds of a `Retry-After` header: a number, or a date; 0 where it says nothing."""
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    return max((moment.astimezone(UTC) - now).total_seconds(), 0.0)


def parsed_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, also where control characters or backslashes stand raw in it; else None."""
    for candidate in (text, ESCAPE.sub(lambda found: found.group() if found.group(1) else "\\\\", text)):
        try:
            value = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def plain_words(text: str, limit: int = 160) -> str:
    """What a page says, on one line without its markup."""
    bare = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<[^>]*>", " ", text[:20_000])
    line = " ".join(bare.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
