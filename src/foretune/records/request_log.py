"""One line of the gateway's request log: a request with its answer, or feedback on one."""

# SPDX-License-Identifier: Apache-2.0
#
# requests.jsonl, append-only. `foretune serve` writes it, `foretune collect` and `monitor` read it. Feedback comes
# later than its request and names it by id; the last one counts.
from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["LOG_FILE", "FeedbackEntry", "LoggedMessage", "RequestEntry"]

LOG_FILE = "requests.jsonl"


class LoggedMessage(BaseModel):
    """One message of a request."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    role: str
    content: str


class RequestEntry(BaseModel):
    """A request and its answer; `status` is the HTTP status sent back, `time` UTC (ISO 8601).

    `pii` says what was done about personal data before this line was written; `session` joins the requests of one
    conversation, `user` is a pseudonym or "".
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: Literal["request"] = "request"
    schema_version: int = 1
    id: str
    time: str
    model: str
    run: str = ""
    variant: str = ""
    messages: tuple[LoggedMessage, ...]
    answer: str = ""
    status: int = 200
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    answer_tokens: int = 0
    latency_seconds: float = 0.0
    cost_usd: float = 0.0
    session: str = ""
    user: str = ""
    pii: Literal["unreviewed", "redacted"] = "unreviewed"


class FeedbackEntry(BaseModel):
    """What somebody said about an answer: `rating` +1 or -1 (0 = none), `correction` the answer they wanted."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: Literal["feedback"] = "feedback"
    schema_version: int = 1
    id: str
    time: str = ""
    rating: int = 0
    correction: str = ""
    comment: str = ""
