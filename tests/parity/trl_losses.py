"""TRL's own DPO, ORPO and KTO losses on a batch of token ids; as a script it records them for where TRL is not.

`PYTHONPATH=tests python tests/parity/trl_losses.py` writes `trl_losses.json` beside it: losses with TRL's version and
the date, of two tiny models that the test makes anew from the same seeds (`weights` is a checksum of what they gave).
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tiny import tiny_model

FIXTURE = Path(__file__).with_suffix(".json")
BETA, SMOOTHING, DESIRABLE, UNDESIRABLE = 0.3, 0.1, 1.5, 0.8
PAD = 0


def examples(num: int = 6, seed: int = 3) -> list[dict[str, Any]]:
    """Prompts with a better and a worse answer, of unlike lengths; `kl` is the answer of the row before."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(10, 2000, size=random.integers(low, high)).tolist()

    rows = [
        {"prompt_ids": ids(3, 9), "chosen_ids": ids(2, 8), "rejected_ids": ids(2, 8), "label": place % 3 != 0}
        for place in range(num)
    ]
    return [{**row, "kl_ids": rows[place - 1]["chosen_ids"]} for place, row in enumerate(rows)]


def two_models(folder: Path) -> tuple[Any, Any]:
    """The model that is trained and the reference, both random, in eval mode."""
    import transformers as hf

    folders = [tiny_model(folder / str(seed), seed=seed) for seed in (0, 1)]
    model, reference = (hf.AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32).eval() for one in folders)
    return model, reference


def checksum(model: Any) -> float:
    """The sum of a model's weights, to notice where seeds give other weights."""
    return float(sum(parameter.detach().double().abs().sum() for parameter in model.parameters()))


def gradient_norm(model: Any) -> float:
    """The norm of all gradients together."""
    return float(torch.stack([p.grad.double().norm() for p in model.parameters() if p.grad is not None]).norm())


def _trainer(kind: type, model: Any, reference: Any, **settings: Any) -> Any:
    """A TRL trainer without data, optimizer or files: what its loss looks at, and nothing else."""
    from trl.trainer.utils import add_fused_lm_head

    trainer = object.__new__(kind)
    for one in (model, reference):
        add_fused_lm_head(one, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    same = SimpleNamespace(
        device=torch.device("cpu"), gather_for_metrics=lambda value: value, gather=lambda value: value
    )
    metrics: dict[str, Any] = {"train": _Lists(), "eval": _Lists()}
    values = {"model": model, "ref_model": reference, "accelerator": same, "_metrics": metrics, "beta": BETA}
    values |= {"aux_loss_enabled": False, "_total_train_tokens": 0, "precompute_ref_logps": False, **settings}
    values["args"] = SimpleNamespace(gradient_checkpointing_kwargs=None)
    for name, value in values.items():
        setattr(trainer, name, value)
    return trainer


class _Lists(dict):  # type: ignore[type-arg]
    def __missing__(self, key: str) -> list[float]:
        self[key] = []
        return self[key]


def _dpo(model: Any, reference: Any, smoothing: float) -> Any:
    from trl import DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    kind = "robust" if smoothing else "sigmoid"
    trainer = _trainer(
        DPOTrainer, model, reference, label_smoothing=smoothing, loss_types=[kind], loss_weights=[1.0],
        ld_alpha=None, f_divergence_type="reverse_kl", f_alpha_divergence_coef=1.0, use_weighting=False,
    )  # fmt: skip
    batch = DataCollatorForPreference(pad_token_id=PAD)(examples())
    return trainer._compute_loss(model, batch, return_outputs=False)


def _kto(model: Any, reference: Any) -> Any:
    from trl import KTOTrainer
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    trainer = _trainer(
        KTOTrainer, model, reference, loss_type="kto", calculate_KL=True, desirable_weight=DESIRABLE,
        undesirable_weight=UNDESIRABLE,
    )  # fmt: skip
    rows = [
        {
            "prompt_ids": row["prompt_ids"],
            "completion_ids": row["chosen_ids"],
            "KL_completion_ids": row["kl_ids"],
            "label": row["label"],
        }
        for row in examples()
    ]
    batch = DataCollatorForUnpairedPreference(pad_token_id=PAD)(rows)
    return trainer._compute_loss(model, batch, return_outputs=False)


def _orpo(model: Any, reference: Any) -> Any:
    from trl.experimental.orpo import ORPOTrainer

    trainer = _trainer(ORPOTrainer, model, reference, is_encoder_decoder=False, padding_value=PAD)
    batch: dict[str, Any] = {}
    for side in ("chosen", "rejected"):
        whole = [row["prompt_ids"] + row[f"{side}_ids"] for row in examples()]
        size = max(map(len, whole))
        batch[f"{side}_input_ids"] = torch.tensor([ids + [PAD] * (size - len(ids)) for ids in whole])
        batch[f"{side}_attention_mask"] = torch.tensor([[1] * len(ids) + [0] * (size - len(ids)) for ids in whole])
        batch[f"{side}_labels"] = torch.tensor(
            [
                [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"] + [-100] * (size - len(ids))
                for row, ids in zip(examples(), whole, strict=True)
            ]
        )
    return trainer.get_batch_loss_metrics(model, batch)[0]


def trl_losses(model: Any, reference: Any) -> dict[str, list[float]]:
    """The mean loss and the norm of its gradient that TRL computes, by method."""
    found = {}
    for name, loss_of in (
        ("dpo", partial(_dpo, smoothing=0.0)),
        ("dpo_smoothed", partial(_dpo, smoothing=SMOOTHING)),
        ("orpo", _orpo),
        ("kto", _kto),
    ):
        model.zero_grad()
        loss = loss_of(model, reference)
        loss.backward()
        found[name] = [float(loss.detach()), gradient_norm(model)]
    model.zero_grad()
    return found


def record() -> None:
    """Write the fixture."""
    import trl

    with tempfile.TemporaryDirectory() as name:
        model, reference = two_models(Path(name))
        weights = [checksum(model), checksum(reference)]
        document = {"trl": trl.__version__, "torch": torch.__version__, "date": datetime.now(UTC).date().isoformat()}
        document |= {"weights": weights, "losses": trl_losses(model, reference)}
    FIXTURE.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document), file=sys.stderr)


if __name__ == "__main__":
    record()
