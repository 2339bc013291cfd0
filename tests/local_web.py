"""A clock that does not wait and a local web server with scripted faults, for the connectors."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any


class FakeClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.start = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@dataclass(frozen=True)
class Call:
    """One request that the server got; `at` is the clock's time in seconds."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    at: float


@dataclass(frozen=True)
class Reply:
    """What the server sends; `cut` promises more bytes than it sends, then hangs up."""

    body: bytes | str | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass
class Web:
    """The running server: its address, what it was asked, and the clock that its callers see."""

    url: str
    clock: FakeClock
    calls: list[Call] = field(default_factory=list)


Answerer = Callable[[Call], Reply]
