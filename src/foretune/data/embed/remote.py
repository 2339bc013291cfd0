"""Embeddings from a server that speaks the OpenAI protocol: `POST {base}/embeddings`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

from foretune.data.embed.vectors import Vectors, unit_rows
from foretune.errors import ServeError

__all__ = ["RemoteEmbedder"]

BATCH = 64
MAX_CHARS = 20_000  # of one text
TIMEOUT_SECONDS = 60.0
TRIES = 4
RETRIED = (408, 409, 429, 500, 502, 503, 504)
SHOWN_CHARS = 120


class RemoteEmbedder:
    """A model behind an OpenAI-compatible endpoint; `base_url` is what stands before `/embeddings`.

    Texts leave this machine. The key is sent as a bearer token and is never shown.
    """

    def __init__(self, base_url: str, model: str, *, api_key: str = "", wait_seconds: float = 1.0) -> None:
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._key = api_key
        self._wait_seconds = wait_seconds

    @property
    def name(self) -> str:
        """Model and server."""
        return f"{self._model} at {self._url}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (N, D). Raises ServeError where the server does not answer as the protocol says."""
        rows: list[Any] = []
        for start in range(0, len(texts), BATCH):
            batch = [text[:MAX_CHARS] or " " for text in texts[start : start + BATCH]]
            rows += self._vectors(batch)
        if len({len(row) for row in rows}) > 1:
            raise self._error("vectors of different lengths")
        return unit_rows(np.array(rows, np.float32).reshape(len(rows), -1))

    def _vectors(self, batch: list[str]) -> list[list[float]]:
        answer = self._post({"model": self._model, "input": batch})
        try:
            items = sorted(answer["data"], key=lambda item: item["index"])
            vectors = [[float(value) for value in item["embedding"]] for item in items]
        except (KeyError, TypeError, ValueError):
            raise self._error(f"no embeddings in {json.dumps(answer)[:SHOWN_CHARS]}") from None
        if len(vectors) != len(batch):
            raise self._error(f"{len(vectors)} vectors for {len(batch)} texts")
        return vectors

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                said = error.read(SHOWN_CHARS * 4).decode("utf-8", "replace")
                if error.code not in RETRIED or attempt == TRIES - 1:
                    raise self._error(f"status {error.code}: {' '.join(said.split())[:SHOWN_CHARS]}") from None
            except (ValueError, UnicodeDecodeError):
                raise self._error("an answer that is not JSON") from None
            except OSError as error:
                if attempt == TRIES - 1:
                    raise self._error(f"no answer ({error})") from None
            time.sleep(self._wait_seconds * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _error(self, what: str) -> ServeError:
        fix = "check the URL and the model, or use --embedder tfidf, which needs neither"
        return ServeError(f"{self._url}: {what}, expected one vector for each text", fix=fix)
