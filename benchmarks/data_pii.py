"""Finds personal data in labelled texts: recall, precision and rows a second, ours beside Presidio's recognisers.

`python benchmarks/data_pii.py`; Presidio takes part where presidio-analyzer is installed. Texts: presidio-research's
synth_dataset_v2 (MIT), 1,500 rows. The phone rule was written with these texts in view; Alpaca 52k is the check that it
keeps still where there are numbers but no phones. Secrets are planted: their formats are published, texts are not.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foretune.audit.pii_patterns import PiiMatch, find_pii
from foretune.audit.presidio import presidio_finder
from foretune.errors import MissingDependency

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LABELLED = DATA / "presidio_pii" / "data" / "synth_dataset_v2.json"
ALPACA = DATA / "alpaca_52k" / "alpaca_data.json"
NAMES = {
    "EMAIL_ADDRESS": "e-mail",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "ssn",
    "PHONE_NUMBER": "phone",
}
ROUNDS = 5
NUM_SECRETS = 100
Finder = Callable[[str], Iterator[PiiMatch]]
LETTERS, HEX = string.ascii_letters + string.digits, "0123456789abcdef"
# Kind of secret: prefix, alphabet and length of what follows.
SECRETS = {
    "aws": ("AKIA", string.ascii_uppercase + "234567", 16),
    "github": ("ghp_", LETTERS, 36),
    "gitlab": ("glpat-", LETTERS, 20),
    "openai": ("sk-proj-", LETTERS, 48),
    "slack": ("xoxb-", string.digits + string.ascii_letters, 40),
    "google": ("AIza", LETTERS, 35),
    "stripe": ("sk_live_", LETTERS, 24),
    "hugging face": ("hf_", string.ascii_letters, 34),
    "npm": ("npm_", LETTERS, 36),
    "named": ("api_key = '", LETTERS, 24),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\n", LETTERS, 400),
}


def scores(finder: Finder, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Recall and precision by kind; a match counts where it overlaps a labelled stretch of its kind."""
    hit, total, right, wrong = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        gold = [
            (NAMES[s["entity_type"]], s["start_position"], s["end_position"])
            for s in row["spans"]
            if s["entity_type"] in NAMES
        ]
        found = [match for match in finder(row["full_text"]) if match.kind in NAMES.values()]
        for kind, start, end in gold:
            total[kind] += 1
            hit[kind] += any(m.kind == kind and m.start < end and start < m.end for m in found)
        for match in found:
            is_right = any(k == match.kind and match.start < e and s < match.end for k, s, e in gold)
            (right if is_right else wrong)[match.kind] += 1
    return {
        kind: {
            "labelled": total[kind],
            "recall": round(hit[kind] / total[kind], 3),
            "precision": round(right[kind] / max(right[kind] + wrong[kind], 1), 3),
        }
        for kind in NAMES.values()
    }


def planted_secrets(seed: int = 0) -> dict[str, float]:
    """Recall of secrets planted in a sentence, by kind."""
    rng = random.Random(seed)
    recall = {}
    for name, (prefix, alphabet, length) in SECRETS.items():
        texts = [prefix + "".join(rng.choices(alphabet, k=length)) for _ in range(NUM_SECRETS)]
        found = [any(m.kind == "secret" for m in find_pii(f"Use {text} to log in.")) for text in texts]
        recall[name] = sum(found) / NUM_SECRETS
    return recall


def _rows_per_second(finders: dict[str, Finder], texts: list[str]) -> dict[str, float]:
    """Rows a CPU second of each finder, in turns; the best round counts."""
    best = dict.fromkeys(finders, 0.0)
    for _ in range(ROUNDS):
        for name, finder in finders.items():
            begin = time.process_time()
            for text in texts:
                for _match in finder(text):
                    pass
            best[name] = max(best[name], len(texts) / (time.process_time() - begin))
    return {name: round(rate) for name, rate in best.items()}


def measure() -> dict[str, Any]:
    """Recall, precision and speed of ours and of Presidio; hits of ours on Alpaca."""
    if not LABELLED.exists():
        return {"skipped": f"{LABELLED.name} is not there"}
    rows = json.loads(LABELLED.read_text(encoding="utf-8"))
    finders: dict[str, Finder] = {"foretune": find_pii}
    skipped = ""
    try:
        finders["presidio"] = presidio_finder()
    except MissingDependency as error:
        skipped = error.what
    result: dict[str, Any] = {name: {"kinds": scores(finder, rows)} for name, finder in finders.items()}
    for name, rate in _rows_per_second(finders, [row["full_text"] for row in rows]).items():
        result[name]["rows_per_second"] = rate
    if skipped:
        result["presidio"] = {"skipped": skipped}
    result["secrets"] = planted_secrets()
    if ALPACA.exists():
        texts = [text for row in json.loads(ALPACA.read_text(encoding="utf-8")) for text in row.values() if text]
        begin = time.process_time()
        result["alpaca_52k"] = dict(Counter(match.kind for text in texts for match in find_pii(text)))
        result["alpaca_52k"]["seconds"] = round(time.process_time() - begin, 2)
    return result


def main() -> None:
    """Print the figures as a table."""
    result = measure()
    for name in ("foretune", "presidio"):
        one = result.get(name, {})
        if "kinds" not in one:
            print(f"{name:10} {one.get('skipped', result.get('skipped'))}")
            continue
        cells = " ".join(f"{kind} {s['recall']:.2f}/{s['precision']:.2f}" for kind, s in one["kinds"].items())
        print(f"{name:10} {one['rows_per_second']:7,} rows/s  {cells}  (recall/precision)")
    for name in ("secrets", "alpaca_52k"):
        print(name, result.get(name))


if __name__ == "__main__":
    main()
