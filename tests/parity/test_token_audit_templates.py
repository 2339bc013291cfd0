"""The token audit on every public chat template: no false alarm on masks that are proved, every broken mask found."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from foretune.data.samples import Message, Sample
from foretune.data.tokenise import prompt_ids, tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError
from foretune.train.token_audit import Audited, token_audit

TOKENIZERS = ("gpt2", "pythia", "llama2", "llama3", "qwen2.5")
TALKS = (
    (Message("user", "Hi <b>there</b>, how are you today?"), Message("assistant", " Hello.\nYes, quite well. ")),
    (Message("system", "Be kind, whoever asks."), Message("user", "Hi, any news?"), Message("assistant", '{"a": 1}')),
    (
        Message("user", "Tell me of the weather."),
        Message("assistant", "It rains in the north."),
        Message("user", "And why does it, in the north?"),
        Message("assistant", "\n\nBecause of the wind.\n\nSo. "),
    ),
    (
        Message("user", "Hi, say something first."),
        Message("assistant", "Skipped entirely.", learn=False),
        Message("user", "Why is that so?"),
        Message("assistant", "Because."),
    ),
)


@dataclass(frozen=True)
class PlainRow:
    """A row without torch."""

    ids: np.ndarray
    weights: np.ndarray
    source: np.ndarray | None = None

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights[1:].sum())


def audited(sample: Sample, tokenizer: Tokenizer, ids: list[int], mask: list[int]) -> list[str]:
    """Ids of the findings that stop a run of this one row."""
    row = PlainRow(np.asarray(ids), np.asarray(mask, dtype=np.float32))
    record = token_audit(Audited(tokenizer, "causal", "lora", "assistant", [row], samples=[sample]))
    return [finding.id for finding in record.stops]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_proved_masks_pass_and_broken_masks_stop_the_run(name: str, shared_data: Path) -> None:
    file = shared_data / "chat_templates" / "chat_templates.json"
    templates = {key: entry["chat_template"] for key, entry in json.loads(file.read_text(encoding="utf-8")).items()}
    plain = Tokenizer.from_folder(shared_data / "tokenizers" / name)
    num_passed, num_broken, missed = 0, 0, []
    for source in dict.fromkeys(templates.values()):
        for number, talk in enumerate(TALKS):
            sample = Sample(id=str(number), messages=talk, place=f"rows.jsonl:{number + 1}")
            try:
                tokenizer = plain.with_template(source)
                found = tokenise(sample, tokenizer)
                prompt = prompt_ids(sample, tokenizer)
            except DataError:
                continue
            ids, mask = found.ids, found.loss_mask
            assert audited(sample, tokenizer, ids, mask) == [], source
            num_passed += 1
            answer = next(i for i, one in enumerate(mask) if one and tokenizer.decode([ids[i]], False).strip())
            broken = {
                "nothing": [0] * len(ids),
                "the prompt too": [0] + [1] * (len(ids) - 1),
                "one token of the prompt": [int(i == len(prompt) - 1) or one for i, one in enumerate(mask)],
                "no end": [one if i + 1 < len(ids) and any(mask[i + 1 :]) else 0 for i, one in enumerate(mask)],
                "no beginning": [0 if i == answer else one for i, one in enumerate(mask)],
            }
            for what, wrong in broken.items():
                num_broken += 1
                if not audited(sample, tokenizer, ids, wrong):
                    missed.append((what, number, tokenizer.decode(ids, False)))
            other = replace(sample, messages=(Message("user", "Something else entirely?"), *talk[1:]))
            num_broken += 1
            if not audited(other, tokenizer, ids, mask):
                missed.append(("other prompt", number, tokenizer.decode(ids, False)))
    assert num_passed >= 12
    assert not missed, f"{len(missed)} of {num_broken}: {missed[:3]}"
