"""A model behind an OpenAI-compatible endpoint: one question at a time, retried, timed and priced."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from foretune.config.job import AdvancedEvaluate
from foretune.errors import ConfigError, ServeError

__all__ = ["Endpoint", "EndpointReply", "Refused", "open_endpoint"]

TRIES = 4
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0  # of a server that asks for more; beyond this the answer is given up
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
USELESS = (401, 403, 404, 405)  # no other question will be answered either
SHOWN_CHARS = 160
MAX_BODY_BYTES = 20_000_000


class Refused(ServeError):
    """The endpoint refuses this one question; others may still be answered."""


class EndpointReply(NamedTuple):
    """An answer with its wall time in seconds, its tokens, and its price in dollars (None where none was given)."""

    text: str
    seconds: float
    prompt_tokens: int
    answer_tokens: int
    cost_usd: float | None


@dataclass(frozen=True)
class Endpoint:
    """Whom to ask. `url` ends where `/chat/completions` begins; the key is sent, never shown or written.

    `usd_per_million`: price of a million tokens read, and written. `sleep` waits between tries.
    """

    url: str
    model: str
    key: str = ""
    timeout_seconds: float = 120.0
    usd_per_million: tuple[float, float] | None = None
    sleep: Callable[[float], None] = time.sleep

    @property
    def host(self) -> str:
        """Where it is, for messages."""
        return urlsplit(self.url).netloc

    def reply(self, messages: Sequence[Mapping[str, Any]], *, max_tokens: int) -> EndpointReply:
        """The greedy answer to a conversation.

        Lost connections, timeouts, 429, 5xx and answers that are no answers are tried again, 4 times in all. Raises
        Refused where this question alone is refused, ServeError where the endpoint does not answer.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": turn["role"], "content": turn["content"]} for turn in messages],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        began = time.monotonic()
        why, wait = "", 0.0
        for attempt in range(TRIES):
            if attempt:
                self.sleep(max(wait, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)))
            began = time.monotonic()
            outcome = self._once(body)
            if isinstance(outcome, dict):
                return self._read(outcome, time.monotonic() - began)
            why, wait = outcome.why, outcome.wait_seconds
            if outcome.is_adjustable:
                body = _without(body, why)
        raise ServeError(f"{self.model} at {self.host} does not answer: {why}", fix="foretune evaluate   # goes on")

    def _once(self, body: Mapping[str, Any]) -> dict[str, Any] | _Fault:
        """The document of one answer, or why to ask again."""
        headers = {"Content-Type": "application/json", "User-Agent": "foretune (evaluation)"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
                data = response.read(MAX_BODY_BYTES)
                return _checked(data) if not response.length else _Fault("the answer was cut off")
        except urllib.error.HTTPError as error:
            return self._judged(error, body)
        except (OSError, http.client.HTTPException) as error:
            return _Fault(f"no answer ({_told(error)})")

    def _judged(self, error: urllib.error.HTTPError, body: Mapping[str, Any]) -> _Fault:
        """Why to ask again. Raises what asking again does not mend."""
        said = _said(error)
        why = f"status {error.code}: {said}"
        if error.code in RETRIED:
            wait = _seconds(error.headers.get("Retry-After", ""))
            if wait > LONGEST_WAIT_SECONDS:
                raise ServeError(f"{self.model} at {self.host} asks to wait {wait:.0f} s ({why})") from None
            return _Fault(why, wait)
        if error.code == 400 and _without(body, said) != body:
            return _Fault(said, is_adjustable=True)
        if error.code in USELESS:
            fix = "evaluate.advanced.endpoint_keys names the key's variable; evaluate.endpoints is URL#model"
            raise ServeError(f"{self.model} at {self.host} refuses us ({why})", fix=fix) from None
        raise Refused(f"{self.model} at {self.host} refuses the question ({why})") from None

    def _read(self, document: dict[str, Any], seconds: float) -> EndpointReply:
        text = (document["choices"][0].get("message") or {}).get("content")
        usage = document.get("usage")
        used = usage if isinstance(usage, dict) else {}
        read, written = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
        cost = None
        if self.usd_per_million is not None and used:
            cost = (read * self.usd_per_million[0] + written * self.usd_per_million[1]) / 1e6
        return EndpointReply(text if isinstance(text, str) else "", seconds, read, written, cost)


class _Fault(NamedTuple):
    why: str
    wait_seconds: float = 0.0
    is_adjustable: bool = False


def open_endpoint(spec: str, settings: AdvancedEvaluate) -> Endpoint:
    """The endpoint that `URL#model` names, with its key and price. Raises ConfigError for a malformed one."""
    url, sign, model = spec.partition("#")
    if not sign or not model or not urlsplit(url).netloc or urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"the endpoint {spec!r} is not of the form URL#model", fix="https://host/v1#model")
    price = _price(model, settings.endpoint_prices)
    key = _key(urlsplit(url).netloc, settings.endpoint_keys)
    return Endpoint(url, model, key, float(settings.timeout_seconds), price)


def _key(host: str, names: Sequence[str]) -> str:
    """The key in the variable named for the host, else in the first one named for all; "" where none is set."""
    by_host = {entry.partition("=")[0]: entry.partition("=")[2] for entry in names if "=" in entry}
    general = [entry for entry in names if "=" not in entry]
    wanted = [by_host[host]] if host in by_host else general
    return next((os.environ[name] for name in wanted if os.environ.get(name)), "")


def _price(model: str, prices: Sequence[str]) -> tuple[float, float] | None:
    for entry in prices:
        name, _, amounts = entry.rpartition("=")
        try:
            read, written = (float(part) for part in amounts.split(","))
        except ValueError:
            fix = f'evaluate.advanced.endpoint_prices = ["{model}=2.5,10"]'
            raise ConfigError(f"the price {entry!r} is not of the form MODEL=READ,WRITTEN", fix=fix) from None
        if name == model:
            return read, written
    return None


def _checked(data: bytes) -> dict[str, Any] | _Fault:
    """The document where it holds an answer."""
    try:
        document: dict[str, Any] = json.loads(data)
    except (ValueError, RecursionError):
        return _Fault(f"an answer that is not JSON: {data[:SHOWN_CHARS]!r}")
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return _Fault(f"an answer without choices: {data[:SHOWN_CHARS]!r}")
    if not isinstance(choices[0].get("message"), dict):
        return _Fault(f"an answer without a message: {data[:SHOWN_CHARS]!r}")
    return document


def _without(body: Mapping[str, Any], said: str) -> dict[str, Any]:
    """The request without what this model says it does not take."""
    changed = dict(body)
    if "max_completion_tokens" in said and "max_tokens" in changed:
        changed["max_completion_tokens"] = changed.pop("max_tokens")
    if "temperature" in said:
        changed.pop("temperature", None)
    return changed


def _said(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(MAX_BODY_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return "nothing"
    with suppress(ValueError, LookupError, TypeError):  # not the protocol's form of an error is shown as it is
        told = json.loads(text)["error"]
        text = str(told["message"] if isinstance(told, dict) else told)
    return " ".join(text.split())[:SHOWN_CHARS] or "nothing"


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return f"{reason or error or type(error).__name__}"[:SHOWN_CHARS]


def _seconds(value: str) -> float:
    return float(value) if value.strip().isdigit() else 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
