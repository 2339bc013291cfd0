"""`decision.json`: what was advised before training, and whether the run follows it, overrides it or skips it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, ClassVar, Literal

from foretune.records.base import Record

__all__ = ["DecisionRecord"]


class DecisionRecord(Record):
    """The answer to "should we fine-tune at all" as it stood when training began.

    `decision`: `follows` (training was recommended or reasonable), `against` (it was advised against and goes on),
    `unasked` (there is no project file: the advice rests on the data alone), `skipped` (nobody wanted to know;
    `reason` says why). `outlook` holds advice, timeline, payback, costs, place
    and pilot as `foretune plan --json` gives them.
    """

    file_name: ClassVar[str] = "decision.json"
    created: str
    foretune_version: str
    decision: Literal["follows", "against", "unasked", "skipped"]
    reason: str
    chosen: str
    sentence: str
    verdict: str
    missing: tuple[str, ...] = ()
    project_file: str = ""
    project_sha256: str = ""
    outlook: dict[str, Any]
