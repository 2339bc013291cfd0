"""Texts said in other words by a given model: any OpenAI-compatible endpoint, or whatever answers messages."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from foretune.data.augment import Rephrase
from foretune.errors import ConfigError, ServeError

__all__ = ["KEY_NAME", "PROMPT", "careful", "endpoint_rephrase"]

KEY_NAME = "OPENAI_API_KEY"
PROMPT = (
    "Say the following text in other words. Keep its meaning, its language, and every name and number as they are. "
    "Answer with the new text alone.\n\n"
)
NUMBER = re.compile(r"\d[\d.,:/-]*\d|\d")
SHORTEST, LONGEST = 0.3, 3.0  # of the text's length; anything else is no rephrasing
TIMEOUT_SECONDS = 60.0
SHOWN_CHARS = 120


def careful(ask: Callable[[str], str]) -> Rephrase:
    """`ask` (prompt to answer) as a rephrasing: an answer that loses a number or is far longer or shorter is not taken.

    The text itself comes back then, and `augmented` tries another kind.
    """

    def rephrase(text: str) -> str:
        answer = ask(PROMPT + text).strip().strip('"').strip()
        fits = SHORTEST * len(text) <= len(answer) <= LONGEST * len(text) + 40
        return answer if fits and NUMBER.findall(answer) == NUMBER.findall(text) else text

    return rephrase


def endpoint_rephrase(spec: str) -> Rephrase:
    """Rephrasing by the model `URL#MODEL` of an OpenAI-compatible endpoint; its key is in OPENAI_API_KEY.

    Texts leave this machine. Raises ConfigError, and ServeError where the endpoint does not answer as it should.
    """
    base, _, model = spec.partition("#")
    if not model or not base.startswith(("http://", "https://")):
        raise ConfigError(f"the model {spec!r}: expected URL#MODEL", fix="--model https://host/v1#MODEL")
    url = base.rstrip("/") + "/chat/completions"
    return careful(lambda prompt: _asked(url, model, prompt))


def _asked(url: str, model: str, prompt: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0.7}
    headers = {"Content-Type": "application/json"}
    if os.environ.get(KEY_NAME):
        headers["Authorization"] = f"Bearer {os.environ[KEY_NAME]}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            answer: Any = json.loads(response.read())
        return str(answer["choices"][0]["message"]["content"] or "")
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(SHOWN_CHARS * 4).decode("utf-8", "replace").split())[:SHOWN_CHARS]
        raise _refusal(url, f"status {error.code}: {said}") from None
    except OSError as error:
        raise _refusal(url, f"no answer ({error})") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise _refusal(url, "an answer without choices") from None


def _refusal(url: str, what: str) -> ServeError:
    return ServeError(f"{url}: {what}", fix="check URL and model, or leave --model out: rules need neither")
