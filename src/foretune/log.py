"""One logger; everything that is not the answer goes to stderr, so stdout stays machine-readable."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

__all__ = ["logger", "note"]

logger = logging.getLogger("foretune")


def note(message: str) -> None:
    """Tell the user one thing that was decided for them (a setting overridden, a fallback taken)."""
    logger.warning(message)
