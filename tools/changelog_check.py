"""Check CHANGELOG.md: `## Unreleased` on top, known headings, entries of one sentence that begin with their area."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
HEADINGS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
RELEASE = re.compile(r"## (Unreleased|\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2})")
ENTRY = re.compile(r"- (Breaking: )?[A-Z][\w /]*: .+\.$")
MAX_WORDS = 25


def faults(text: str) -> Iterator[str]:
    """Everything wrong, with its line."""
    releases = [line for line in text.splitlines() if line.startswith("## ")]
    if not releases or releases[0] != "## Unreleased":
        yield "the first release must be `## Unreleased`"
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("## ") and not RELEASE.fullmatch(line):
            yield f"{number}: a release is `## 1.2.3 - 2026-01-31`, got {line!r}"
        elif line.startswith("### ") and line[4:] not in HEADINGS:
            yield f"{number}: headings are {', '.join(HEADINGS)}, got {line[4:]!r}"
        elif line.startswith("- ") and not ENTRY.fullmatch(line):
            yield f"{number}: an entry is `- Area: one sentence.`, got {line!r}"
        elif line.startswith("- ") and len(line.split()) - 1 > MAX_WORDS:
            yield f"{number}: {len(line.split()) - 1} words, at most {MAX_WORDS}"


def main() -> int:
    """Print every fault; 1 if there is one."""
    found = list(faults(CHANGELOG.read_text(encoding="utf-8")))
    for fault in found:
        print(f"CHANGELOG.md: {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
