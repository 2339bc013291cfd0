"""Setups: what is trained, where adapters sit, and over how many devices a part is divided."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from foretune.errors import ConfigError
from foretune.models.shapes import model_shape
from foretune.plan.setup import Parallel, Setup, weight_bytes

from .conftest import LLAMA_7B

SHAPE = model_shape(LLAMA_7B)


def test_trained_parameters_by_method() -> None:
    queries = Setup(SHAPE, rank=16, target_modules=("q_proj", "v_proj"))
    assert queries.trained_parameters == 8_388_608
    assert queries.changed(target_modules=("all-linear",)).trained_parameters == 39_976_960
    assert queries.changed(method="full").trained_parameters == SHAPE.parameters == 6_738_415_616
    assert queries.changed(method="prompt", num_prompt_tokens=20).trained_parameters == 20 * 4096
    assert queries.changed(method="weights").trained_parameters == 0
    assert queries.changed(stated_parameters=7).trained_parameters == 7
    assert queries.changed(trains_embeddings=True).trained_parameters == 8_388_608 + 2 * 32_000 * 4096


def test_targets_by_name_of_layers() -> None:
    setup = Setup(SHAPE, target_modules=("up_proj",))
    assert len(setup.targeted) == 32
    assert setup.changed(target_modules=("input_layernorm",)).targeted == ()
    assert setup.changed(method="full").targeted == ()


def test_shards() -> None:
    parallel = Parallel(data=8, tensor=2, pipeline=3, context=2, sharding="zero1")
    assert parallel.devices == 96
    assert parallel.shards == 16
    assert Parallel(data=64, shard_group=8).shards == 8


def test_bytes_of_a_weight() -> None:
    assert weight_bytes("bf16") == 2
    assert weight_bytes("nf4") == 0.5625
    assert weight_bytes("nf4-dq") == pytest.approx(0.516, abs=0.001)
    with pytest.raises(ConfigError, match="nf3"):
        weight_bytes("nf3")
