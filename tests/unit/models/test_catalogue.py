"""Names as people write them find their model; every entry is complete; typos get a suggestion."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from foretune.errors import ConfigError
from foretune.models.catalogue import CatalogueModel, closest_models, find_model, models, select_models, shape_for
from foretune.models.families import FAMILIES

SRC = Path(__file__).parents[3] / "src"


def found(name: str) -> CatalogueModel:
    model = find_model(name)
    assert model is not None, name
    return model


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("Llama 2 7 B", "meta-llama/Llama-2-7b-hf"),
        ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("llama2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
        ("CodeLlama/Llama-2 7B class", "meta-llama/Llama-2-7b-hf"),
        ("LLaMA-33B", "huggyllama/llama-30b"),
        ("LLAMA3.1_405B", "meta-llama/Llama-3.1-405B"),
        ("LLAMA3_70B", "meta-llama/Meta-Llama-3-70B"),
        ("Llama3 70B 2-node", "meta-llama/Meta-Llama-3-70B"),
        ("Llama 4 Scout 109B", "meta-llama/Llama-4-Scout-17B-16E"),
        ("tiny-llama", "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T"),
        ("Qwen3_235B_a22B", "Qwen/Qwen3-235B-A22B"),
        ("Qwen3 MoE 30B", "Qwen/Qwen3-30B-A3B"),
        ("qwen-1_8b-chat", "Qwen/Qwen-1_8B-Chat"),
        ("Qwen-1.8B", "Qwen/Qwen-1_8B"),
        ("Qwen2.5 32B 2-node", "Qwen/Qwen2.5-32B"),
        ("MPT-760m", "mosaicml/llm-foundry-mpt-760m"),
        ("MPT 1.3B", "mosaicml/llm-foundry-mpt-1b"),
        ("StableLM Alpha 3 B", "stabilityai/stablelm-base-alpha-3b"),
        ("GPT-2 124M", "openai-community/gpt2"),
        ("OPT-66B", "facebook/opt-66b"),
        ("nanochat d24/d26", "karpathy/nanochat-d24"),
        ("GPT 181B (BLOOM prequel)", "bigscience/gpt-181B-prequel"),
        ("Yi 34B", "01-ai/Yi-34B"),
        ("baichuan2-13b-chat", "baichuan-inc/Baichuan2-13B-Chat"),
        ("phi-1.5 1.3 B", "microsoft/phi-1_5"),
        ("FLAN-T5-XXL (11B)", "google/flan-t5-xxl"),
        ("Nemotron V3 Nano 30B (26.02)", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"),
        ("Nemotron_3_Super", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"),
        ("DeepSeekV3", "deepseek-ai/DeepSeek-V3-Base"),
        ("Falcon 40 B", "tiiuae/falcon-40b"),
        ("bigscience/T0_3B", "bigscience/T0_3B"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_names_as_people_write_them(name: str, model_id: str) -> None:
    assert found(name).id == model_id


@pytest.mark.parametrize("name", ["7B", "6.74B", "13.02B", "70b", "", "my-own-model", "resnet50", "-", "/"])
def test_sizes_and_strangers_are_no_model(name: str) -> None:
    assert find_model(name) is None


def test_every_name_in_the_catalogue_finds_its_model() -> None:
    for model in models():
        assert found(model.id).id == model.id
        for alias in model.aliases:
            assert found(alias).id == model.id, alias


def test_entries_are_complete() -> None:
    for model in models():
        assert model.family == model.config["model_type"], model.id
        assert model.family in FAMILIES, model.id
        assert model.shape.is_exact, model.id
        assert all((model.licence, model.languages, model.source)), model.id
        assert model.context_tokens > 0, model.id
        assert re.fullmatch(r"20[12]\d-(0[1-9]|1[0-2])", model.released), model.id
        assert date.fromisoformat(model.date) >= date(2026, 11, 1), model.id


def test_there_are_enough_models_and_their_file_is_one_a_line() -> None:
    assert len(models()) >= 120
    text = (SRC / "foretune/models/catalogue.json").read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(models()) + 2
    assert [row["id"].lower() for row in json.loads(text)] == sorted(row["id"].lower() for row in json.loads(text))
    assert "://" not in text


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2-xl", 1_557_611_200),
        ("gpt-j-6b", 6_050_882_784),
        ("gpt-neox-20b", 20_554_567_680),
        ("pythia-1b", 1_011_781_632),
        ("opt-350m", 331_196_416),
        ("mpt-7b", 6_649_286_656),
        ("bloom", 176_247_271_424),
        ("Llama 2 70B", 68_976_648_192),
        ("Llama 3.1 405B", 405_853_388_800),
        ("Llama 3.2 3B", 3_212_749_824),
        ("Mixtral 8x22B", 140_620_634_112),
        ("Mistral Nemo", 12_247_782_400),
        ("Qwen-7B", 7_721_324_544),
        ("Qwen2.5 72B", 72_706_203_648),
        ("Qwen3 8B", 8_190_735_360),
        ("gemma-2-27b", 27_227_128_320),
        ("gemma-3-1b", 999_885_952),
        ("phi-2", 2_779_683_840),
        ("phi-4", 14_659_507_200),
        ("falcon-7b", 6_921_720_704),
        ("SmolLM2-135M", 134_515_008),
        ("OLMoE", 6_919_161_856),
        ("DeepSeek-V2", 235_741_434_880),
        ("DeepSeek-R1", 671_026_404_352),
        ("gpt-oss 120B", 116_829_156_672),
        ("chatglm3-6b", 6_243_584_000),
        ("baichuan2-13b", 13_896_668_160),
        ("Yi 34B", 34_388_917_248),
        ("Nemotron 3 Nano", 31_577_937_344),
        ("starcoder", 15_517_456_384),
    ],
)
def test_published_parameter_counts(name: str, parameters: int) -> None:
    assert found(name).shape.parameters == parameters


@pytest.mark.req("R166")
@pytest.mark.req("R172")
def test_t5_and_flan_t5() -> None:
    assert found("t5-small").licence == found("T5 small").licence == "apache-2.0"
    assert found("FLAN-T5-XXL").shape.parameters == pytest.approx(11e9, rel=0.02)


@pytest.mark.req("R167")
def test_gpt_neo_is_mit() -> None:
    assert {model.licence for model in select_models(family="gpt_neo")} == {"mit"}


@pytest.mark.req("R169")
@pytest.mark.req("R171")
def test_llama_and_alpaca() -> None:
    assert found("Llama-2-7b-hf").licence == "llama2"
    assert "non-commercial" in found("LLaMA-7B").licence
    sizes = [found(f"Alpaca {size}").shape.parameters / 1e9 for size in ("7B", "13B", "30B", "33B")]
    assert sizes == pytest.approx([6.74, 13.02, 32.5, 32.5], rel=0.005)


@pytest.mark.req("R170")
def test_mistral_and_code_llama() -> None:
    assert found("Mistral 7B").licence == "apache-2.0"
    assert "code" in found("CodeLlama-7b").languages


@pytest.mark.req("R173")
def test_bloom_carries_its_use_limits() -> None:
    assert found("BLOOM-560m").licence == found("BLOOM 176B").licence == "bigscience-bloom-rail-1.0"


@pytest.mark.req("R165")
def test_selection_by_size_licence_language_and_tuning() -> None:
    chosen = select_models(max_parameters=2e9, licences=("apache-2.0", "mit"), language="de", chat=True)
    assert chosen == select_models(max_parameters=2e9, licences=("apache-2.0", "mit"), language="de", chat=True)
    assert chosen
    assert all(
        model.shape.parameters <= 2e9 and model.licence in ("apache-2.0", "mit") and model.chat for model in chosen
    )
    assert [model.released for model in chosen] == sorted((model.released for model in chosen), reverse=True)
    assert all("code" in model.languages for model in select_models(language="code"))
    assert all(model.context_tokens >= 100_000 for model in select_models(min_context_tokens=100_000))


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("lama 2 7b", "meta-llama/Llama-2-7b-hf"),
        ("mistrall-7b", "mistralai/Mistral-7B-v0.1"),
        ("gema-2-9b", "google/gemma-2-9b"),
        ("qwen2.5-7", "Qwen/Qwen2.5-7B"),
    ],
)
def test_a_typo_gets_a_suggestion(typo: str, meant: str) -> None:
    assert meant in closest_models(typo)
    with pytest.raises(ConfigError, match="did you mean") as caught:
        shape_for(typo)
    assert caught.value.fix.startswith("--base ")


def test_a_shape_comes_from_config_name_folder_or_size(tmp_path: Path) -> None:
    config = found("Llama 3.2 1B").config
    assert shape_for(None, config=config) == (found("Llama 3.2 1B").shape, ())
    assert shape_for("Llama 3.2 1B", 1.24e9) == (found("Llama 3.2 1B").shape, ())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert shape_for(str(tmp_path)) == (found("Llama 3.2 1B").shape, ())
    shape, said = shape_for(None, 7e9)
    assert shape.parameters == pytest.approx(7e9, rel=0.002)
    assert said == ("counted as a Llama of 7 billion parameters",)
    assert shape_for("pebble")[0].parameters < 50e6


def test_what_was_assumed_is_said() -> None:
    assert shape_for("house-model-v3", 7e9)[1] == (
        "house-model-v3: not in the catalogue, counted as a Llama of 7 billion parameters",
    )
    assert shape_for("Qwen2-VL 7B", 8.3e9)[1] == (
        "the language model alone is counted, not the parts that see or hear",
        "Qwen2-VL 7B: 7.62 billion parameters by its config, 8.3 as given",
    )
    assert shape_for("falcon-11b-chat", 11e9)[1] == (
        "falcon-11b-chat: not in the catalogue, counted as a Llama of 11 billion parameters",
    )
    unknown = {**found("Llama 2 7B").config, "model_type": "brandnew"}
    assert shape_for(None, config=unknown)[1] == ("family brandnew is counted as if it were a Llama",)


def test_without_anything_it_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match="no model was given"):
        shape_for(None)
    with pytest.raises(ConfigError, match="neither in the catalogue nor a folder"):
        shape_for("zzzzzzzzzzzz/qqqqqqqqqq")


def test_no_torch_is_needed() -> None:
    heavy = {"torch", "transformers", "numpy", "scipy", "huggingface_hub"}
    code = f"import sys, foretune.models.catalogue as c; c.find_model('x'); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SRC)})
