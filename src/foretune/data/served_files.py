"""The files by which other servers ask a tuned model as it was trained: its chat template and its stop tokens."""

# SPDX-License-Identifier: Apache-2.0
#
# foretune's plain form (template.py) is used for bases without a chat template. Left in foretune alone it would be
# missing wherever else the model is served, and every server would ask in a form of its own.
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from foretune.data.template import DEFAULT_TEMPLATE
from foretune.data.tokenizer import Tokenizer

__all__ = ["served_files", "served_template"]


def served_template(tokenizer: Tokenizer) -> str:
    """The chat template in use, naming only what every reader of chat templates knows (`bos_token`, `eos_token`)."""
    if tokenizer.has_chat_template:
        return tokenizer.template.source
    begins = tokenizer.render([]).startswith(_begin(tokenizer)) and bool(_begin(tokenizer))
    ends = tokenizer.eos_id is not None
    plain = DEFAULT_TEMPLATE.replace("{{ bos }}", "{{ bos_token }}" if begins else "")
    return plain if ends else plain.replace("{{ eos_token }}", "")


def _begin(tokenizer: Tokenizer) -> str:
    return "" if tokenizer.bos_id is None else tokenizer.token_text(tokenizer.bos_id)


def served_files(tokenizer: Tokenizer, generation_config: Mapping[str, Any]) -> dict[str, str]:
    """`chat_template.jinja` and `generation_config.json`, by name, to be written beside a whole model.

    `generation_config` is that of the base ({} if it has none); every token that ends an answer is put on its list.
    """
    stop: Any = list(tokenizer.stop_ids)
    settings = dict(generation_config) | ({"eos_token_id": stop[0] if len(stop) == 1 else stop} if stop else {})
    files = {"chat_template.jinja": served_template(tokenizer)}
    return (
        files | {"generation_config.json": json.dumps(settings, indent=2, sort_keys=True) + "\n"} if settings else files
    )
