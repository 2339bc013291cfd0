"""The gate after training: does the artefact on the disk answer as the model that was trained, and unlike its base?"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foretune.data.samples import Message, Sample
from foretune.data.tokenizer import Tokenizer
from foretune.engine.engine import Engine, load_engine
from foretune.errors import CheckpointError, ConfigError, DataError
from foretune.models.adapter import merge_lora
from foretune.models.linear import is_packed
from foretune.models.load import LoadedModel
from foretune.models.lora import LowRank
from foretune.models.quantise import quantise_layers
from foretune.records.parity import FormParity, ParityRecord
from foretune.train.forms import Distance, Probe, answered, distance, logits_of, probes
from foretune.train.token_audit import template_sha256

__all__ = ["BOUNDS_NATS", "check_parity", "parity"]

NUM_PROMPTS = 4
ASKED, SAID = Message("user", "What is it?\n- this"), Message("assistant", " A reply. ")
TALKS = ((ASKED, SAID), (Message("system", "Be brief."), ASKED, SAID), (ASKED, SAID, ASKED, SAID))
# Largest KL (nats) from the trained model at any position; int8: its mean, as single positions may be near ties.
# Measured on pebble: reloaded 0, merged 7e-12, bf16 3e-4, int8 3e-5 to 1e-4.
BOUNDS_NATS = {"reloaded": 1e-6, "reloaded_bf16": 2e-2, "merged": 1e-5, "int8": 1e-2}
ACTIVE = 1e-5  # change of a logit, as a share of the largest, from which an adapter is more than rounding


class _Trained(NamedTuple):
    """The model in memory on its probes."""

    asked: list[Probe]
    logits: list[Tensor]


@dataclass
class _Gate:
    """What has been found so far."""

    forms: list[FormParity] = field(default_factory=list)
    not_checked: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parity(
    trained: LoadedModel,
    tokenizer: Tokenizer,
    samples: Sequence[Sample],
    *,
    base: Path | None,
    artefact: Path,
    max_seq_len: int = 0,
    has_bf16_weights: bool = False,
    reload: Callable[[], Engine] | None = None,
) -> ParityRecord:
    """Hold `artefact`, as serving loads it, against `trained` on prompts of `samples` (the validation split).

    `base` is the folder of the base model, None where training began with random weights. `has_bf16_weights` says that
    the artefact's whole model was rounded to bf16. `reload` loads it as it will be served; by default `load_engine`.
    One more copy of the model is in memory meanwhile; the trained one is left as it is. Raises what loading raises.
    """
    began, gate = time.perf_counter(), _Gate()
    unanswered = probes(samples, tokenizer, trained.kind, max_seq_len=max_seq_len, count=NUM_PROMPTS)
    asked = answered(trained, unanswered or [Probe([tokenizer.pad_id], [])], tokenizer.stop_ids)
    mine = _Trained(asked, [logits_of(trained, one) for one in asked])
    active = _base_distance(trained, mine, base, artefact, gate)
    served = _served(base, artefact, reload)
    facts = _tokenizer_facts(tokenizer, served.tokenizer, gate)
    is_finite = _check_finite(served.loaded, gate)
    reloaded = _form(gate, served.loaded, mine, "reloaded", "reloaded_bf16" if has_bf16_weights else "reloaded")
    _merged_and_quantised(gate, served.loaded, mine)
    return ParityRecord(
        artefact=artefact.name,
        num_prompts=len(asked),
        num_positions=reloaded.num_positions,
        is_active=None if active is None else active.max_logit_change > ACTIVE * _largest(mine.logits),
        base_max_kl_nats=None if active is None else active.max_kl,
        base_max_logit_change=None if active is None else active.max_logit_change,
        forms=tuple(gate.forms),
        is_finite=is_finite,
        seconds=round(time.perf_counter() - began, 3),
        not_checked=gate.not_checked,
        problems=tuple(gate.problems),
        warnings=tuple(gate.warnings),
        **facts,
    )


def check_parity(record: ParityRecord) -> None:
    """Raise CheckpointError where the artefact is not the model that was trained, or is no more than the base."""
    if record.problems:
        raise CheckpointError(
            f"{record.artefact}: {record.problems[0]}",
            fix="the checkpoints are whole; foretune runs resume writes the artefact again",
        )


def _served(base: Path | None, artefact: Path, reload: Callable[[], Engine] | None) -> Engine:
    if reload is not None:
        return reload()
    return load_engine(artefact if base is None else base, artefact)


def _largest(logits: Sequence[Tensor]) -> float:
    return max(float(one.abs().max()) for one in logits)


def _base_distance(
    trained: LoadedModel, mine: _Trained, base: Path | None, artefact: Path, gate: _Gate
) -> Distance | None:
    """How far the trained model is from its base; adapters are switched off, a whole model's base is read again."""
    if (artefact / "adapter_config.json").is_file():
        plain = [logits_of(trained, one, is_base=True) for one in mine.asked]
    elif base is None:
        gate.not_checked["base"] = "training began with random weights"
        return None
    else:
        loaded = load_engine(base).loaded
        plain = [logits_of(loaded, one) for one in mine.asked]
    found = distance(mine.logits, plain, mine.asked)
    if not found.max_logit_change > ACTIVE * _largest(mine.logits):
        gate.problems.append(
            f"the trained model answers as its base does (largest change of a logit {found.max_logit_change:.2g}): "
            "training changed nothing, or the adapter is not active"
        )
    return found


def _form(gate: _Gate, loaded: LoadedModel, mine: _Trained, name: str, bound_name: str) -> Distance:
    """Measure one form and judge it."""
    found = distance(mine.logits, [logits_of(loaded, one) for one in mine.asked], mine.asked)
    bound, is_int8 = BOUNDS_NATS[bound_name], name == "int8"
    measured = found.mean_kl if is_int8 else found.max_kl
    is_exact = bound_name in ("reloaded", "merged")
    holds = measured <= bound and (not is_exact or found.agreement == 1.0)
    gate.forms.append(
        FormParity(
            form=name,
            max_kl_nats=found.max_kl,
            mean_kl_nats=found.mean_kl,
            greedy_agreement=found.agreement,
            bound_nats=bound,
            holds=holds,
            is_required=not is_int8,
        )
    )
    if not holds:
        said = f"the {name} model differs from the trained one: KL {measured:.2g} nats (bound {bound:g}), "
        said += f"{found.agreement:.0%} of the answer tokens equal"
        (gate.warnings if is_int8 else gate.problems).append(said)
    return found


def _merged_and_quantised(gate: _Gate, loaded: LoadedModel, mine: _Trained) -> None:
    """Fold the adapters in, then pack the weights into 8 bits, each measured; `loaded` is used up."""
    if any(is_packed(module) for module in loaded.model.modules()):
        gate.not_checked |= dict.fromkeys(("merged", "int8"), "the base is quantised already")
        return
    if any(isinstance(module, LowRank) for module in loaded.model.modules()):
        merge_lora(loaded)
        _form(gate, loaded, mine, "merged", "merged")
    else:
        gate.not_checked["merged"] = "there is no low-rank adapter to merge"
    try:
        quantise_layers(loaded.model, "8bit")
    except ConfigError as error:
        gate.not_checked["int8"] = error.what
        return
    _form(gate, loaded, mine, "int8", "int8")


def _tokenizer_facts(trained: Tokenizer, served: Tokenizer, gate: _Gate) -> dict[str, Any]:
    """Template and special ids of training, and whether serving has the same."""
    own, its = _special_ids(trained), _special_ids(served)
    same_template = trained.template.source == served.template.source or _renders_alike(trained, served)
    if not same_template:
        gate.problems.append("the artefact's chat template is not the one of training")
    if own != its:
        odd = next(name for name in own if own[name] != its[name])
        gate.problems.append(f"{odd} is {own[odd]} in training and {its[odd]} in the artefact")
    return {
        "template_sha256": template_sha256(trained),
        "is_template_equal": same_template,
        "special_ids": own,
        "are_special_ids_equal": own == its,
    }


def _renders_alike(trained: Tokenizer, served: Tokenizer) -> bool:
    """Whether two templates written otherwise give the same text for the same conversations, prompts included."""
    return all(_rendered(trained, talk) == _rendered(served, talk) for talk in TALKS)


def _rendered(tokenizer: Tokenizer, talk: tuple[Message, ...]) -> tuple[str, str] | None:
    """A conversation as text, and as it is asked; None where the template refuses it."""
    try:
        return tokenizer.render(talk), tokenizer.render(talk[:-1], add_generation_prompt=True)
    except DataError:
        return None


def _special_ids(tokenizer: Tokenizer) -> dict[str, tuple[int, ...]]:
    single = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    ids = {name: () if number is None else (number,) for name, number in single.items()}
    return {**ids, "stop": tokenizer.stop_ids}


def _check_finite(loaded: LoadedModel, gate: _Gate) -> bool:
    bad = [name for name, value in loaded.model.named_parameters() if not bool(torch.isfinite(value).all())]
    if bad:
        gate.problems.append(f"{bad[0]} of the artefact holds numbers that are not finite")
    return not bad
