"""Static embeddings from a folder: one vector a token, averaged; no torch, thousands of texts a second."""

# SPDX-License-Identifier: Apache-2.0
#
# Reads the layout of model2vec and of sentence-transformers' StaticEmbedding: `tokenizer.json` and `model.safetensors`
# with a matrix `embeddings` (or `embedding.weight`) of shape (vocabulary, D), and optionally `weights` a token.
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing

from foretune.data.embed.vectors import Vectors, unit_rows
from foretune.errors import DataError

__all__ = ["StaticEmbedder", "is_static_folder"]

MATRIX_NAMES = ("embeddings", "embedding.weight")
MAX_TOKENS = 512
BATCH = 1024


def is_static_folder(folder: Path) -> bool:
    """Whether a folder holds static embeddings."""
    if not (folder / "tokenizer.json").is_file() or not (folder / "model.safetensors").is_file():
        return False
    return bool(set(_tensors(folder)) & set(MATRIX_NAMES))


class StaticEmbedder:
    """The embeddings of one folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        tensors = _tensors(folder, read=True)
        matrix = next((tensors[name] for name in MATRIX_NAMES if name in tensors), None)
        if matrix is None or matrix.ndim != 2:
            raise DataError(f"{folder}: no matrix of embeddings, expected a tensor named {' or '.join(MATRIX_NAMES)}")
        weights = tensors.get("weights", np.ones(len(matrix), np.float32))
        mapping = tensors.get("mapping", np.arange(len(weights)))
        self._matrix: Vectors = matrix.astype(np.float32)[mapping] * weights[:, None].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._unknown = self._tokenizer.token_to_id("[UNK]")
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder's name and its size."""
        return f"static embeddings {self._folder.name} ({self._matrix.shape[1]} dimensions)"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (N, D): the mean of the tokens' vectors."""
        rows = [np.zeros((0, self._matrix.shape[1]), np.float32)]
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids = [number for number in encoding.ids if number != self._unknown and number < len(self._matrix)]
                rows.append(self._matrix[ids].sum(axis=0, keepdims=True))
        return unit_rows(np.concatenate(rows))


def _tensors(folder: Path, *, read: bool = False) -> dict[str, np.typing.NDArray[Any]]:
    """Tensors of `model.safetensors` by name; only their names (with empty arrays) unless `read`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / "model.safetensors"), "np") as file:
            return {name: file.get_tensor(name) if read else np.empty(0) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(
            f"{folder / 'model.safetensors'}: cannot be read ({error})", fix="download the folder again"
        ) from None
