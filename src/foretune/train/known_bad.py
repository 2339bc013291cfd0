"""The bank of known failures of fine-tuning tools, from public issue threads, and what foretune does with each."""

# SPDX-License-Identifier: Apache-2.0
#
# A test makes each of these happen. `threads` are repository#number; what they say is in our own words.
from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["KNOWN_FAILURES", "KnownFailure", "known_failures_table"]

Handling = Literal["refused", "mended", "warned", "caught"]
WORDS: dict[Handling, str] = {
    "refused": "refused before the first step",
    "mended": "mended, and said so",
    "warned": "said before the first step",
    "caught": "caught by a gate",
}


class KnownFailure(NamedTuple):
    """One known-bad configuration. `by` is the check that answers for it."""

    key: str
    what: str
    threads: tuple[str, ...]
    handling: Handling
    by: str
    reason: str


KNOWN_FAILURES: tuple[KnownFailure, ...] = (
    KnownFailure(
        "resume-at-zero",
        "checkpoints exist, and resuming begins at step 0 and overwrites them",
        ("transformers#23325", "trl#3552", "trl#3179", "textgen#1459"),
        "refused",
        "check_resumable",
        "checkpoints of other settings or data are an error, never a fresh start",
    ),
    KnownFailure(
        "resume-other-loss",
        "the loss jumps after resuming: adapter or optimizer came back otherwise",
        ("alpaca-lora#72", "LLaMA-Factory#2389", "transformers#7198"),
        "caught",
        "resume_self_test",
        "the first checkpoint is read back and compared bit by bit",
    ),
    KnownFailure(
        "resume-other-data",
        "a resumed run skips data, or sees it twice",
        ("ms-swift#8383", "transformers#25849", "transformers#23034"),
        "mended",
        "global_batch",
        "the samples of a step follow from seed and step alone",
    ),
    KnownFailure(
        "double-begin",
        "two begin tokens: the data brings one, the template another",
        ("unsloth#2648",),
        "refused",
        "TOK002",
        "serving sends one; the row is named",
    ),
    KnownFailure(
        "other-prompt-in-serving",
        "the model is trained on one prompt and asked with another",
        ("LLaMA-Factory#8720", "unsloth#3899", "vllm#5298", "ollama#6823"),
        "refused",
        "TOK040",
        "what serving feeds must be the head of the training row, token for token",
    ),
    KnownFailure(
        "thinking-dropped",
        "the template drops <think> text of answers in training and not in serving",
        ("LLaMA-Factory#9392", "LLaMA-Factory#8832", "LLaMA-Factory#10282"),
        "refused",
        "lay_out",
        "an answer that the template rewrites cannot be told from the prompt; the row is named",
    ),
    KnownFailure(
        "other-template-in-artefact",
        "the exported model has another chat template, or the user must guess it",
        ("unsloth#798", "LLaMA-Factory#2692", "ollama#6821"),
        "caught",
        "parity template",
        "template and special ids of the artefact are those of training, or the gate closes",
    ),
    KnownFailure(
        "adapter-under-other-names",
        "adapter weights under names that the base does not have are ignored",
        ("vllm#34186", "peft#793"),
        "refused",
        "load_adapter",
        "every tensor must have its place, and every place its tensor",
    ),
    KnownFailure(
        "adapter-not-active",
        "the tuned model answers exactly as its base",
        ("LLaMA-Factory#8242", "lm-evaluation-harness#808"),
        "caught",
        "parity active",
        "logits with and without the adapter must differ beyond rounding",
    ),
    KnownFailure(
        "base-exported",
        "the exported folder holds the base's weights",
        ("LLaMA-Factory#9051",),
        "caught",
        "parity reloaded",
        "the artefact is loaded as serving does and held against the model in memory",
    ),
    KnownFailure(
        "merged-differs",
        "merged weights answer otherwise than base and adapter",
        ("LLaMA-Factory#5186", "ms-swift#3756", "unsloth#918", "tinker-cookbook#193"),
        "caught",
        "parity merged",
        "KL of at most 1e-5 nats at every position, and the same greedy tokens",
    ),
    KnownFailure(
        "merged-into-quantised",
        "an adapter is merged into rounded 4- or 8-bit weights",
        ("peft#1043", "peft#2321", "unsloth-zoo PR#810"),
        "refused",
        "merge_lora",
        "packed weights cannot take the change",
    ),
    KnownFailure(
        "targets-match-nothing",
        "target modules that the model does not have are ignored",
        ("vllm#9280", "vllm#3404"),
        "refused",
        "attach_lora",
        "the names that exist are listed, the nearest proposed",
    ),
    KnownFailure(
        "memory-in-training",
        "out of memory in the middle of a run",
        ("LLaMA-Factory#5419", "LLaMA-Factory#836", "h2o-llmstudio#311"),
        "mended",
        "next_rung",
        "the step is done again in smaller pieces; the global batch and its gradient stay",
    ),
    KnownFailure(
        "memory-in-evaluation",
        "out of memory in evaluation kills the run",
        ("unsloth#1147", "transformers#12522", "axolotl#2688"),
        "mended",
        "Engine.generate",
        "the batch is halved and the answers are the same",
    ),
    KnownFailure(
        "dependency-too-old",
        "an installed package is too old and fails deep inside",
        ("LLaMA-Factory#10593", "peft#2754", "trl#4098"),
        "refused",
        "load_model",
        "versions are checked at the door, with the pip line",
    ),
    KnownFailure(
        "all-masked",
        "every label is masked: the loss is 0 and nothing is learned",
        ("unsloth#3198", "trl#6668"),
        "refused",
        "TOK001",
        "rows without a token that carries loss are named",
    ),
    KnownFailure(
        "marker-not-found",
        "the marker of the answer is tokenised otherwise in context, so rows drop out of the loss",
        ("trl#1820", "trl#588", "unsloth#2095"),
        "mended",
        "tokenise",
        "answers are found by rendering and proved, not by searching for a marker",
    ),
    KnownFailure(
        "prompt-learned",
        "user turns carry loss",
        ("unsloth#2900", "unsloth#1128", "PraisonAI PR#4358"),
        "refused",
        "TOK041",
        "what carries loss is read back as text; a question among it stops the run",
    ),
    KnownFailure(
        "answer-not-learned",
        "answers, or parts of them, carry no loss",
        ("unsloth#2364", "unsloth#2117", "unsloth#3041"),
        "refused",
        "TOK042",
        "every answer must stand whole in what carries loss",
    ),
    KnownFailure(
        "targets-cut-off",
        "truncation cuts the answer away: silent loss of targets, or NaN",
        ("trl#3927", "trl#6548", "trl#1053"),
        "mended",
        "TOK005",
        "such rows are left out whole, counted and named; where none is left it is an error",
    ),
    KnownFailure(
        "longer-than-positions",
        "rows longer than the model's positions are clipped, or fail in mid-run",
        ("unsloth#2904", "LLaVA#447"),
        "refused",
        "TOK004",
        "the row and the limit are named before the first step",
    ),
    KnownFailure(
        "nan-artefact",
        "an adapter full of NaN, exit code 0",
        ("Soup#532",),
        "caught",
        "parity finite",
        "every number of the artefact must be finite",
    ),
    KnownFailure(
        "nan-base",
        "the loss is NaN from the first step on",
        ("unsloth#2040", "unsloth#911"),
        "refused",
        "check_finite",
        "weights of the base that are not finite are named before the first step",
    ),
    KnownFailure(
        "half-precision-overflow",
        "fp16 overflows to NaN or zero loss",
        ("gemma_pytorch#24", "unsloth#255"),
        "mended",
        "loss_scaler",
        "losses are scaled, an update that overflows is left out; refused on a processor",
    ),
    KnownFailure(
        "diverged",
        "the loss becomes NaN and training goes on to the end",
        ("unsloth#2153", "unsloth#3385"),
        "caught",
        "post_mortem",
        "the run ends at that step, and the post-mortem proposes a tenth of the learning rate",
    ),
    KnownFailure(
        "pad-is-eos",
        "padding is the end-of-text token, masking it masks the end: the model never stops",
        ("trl#734", "trl#1623"),
        "mended",
        "TOK022",
        "masks come from lengths, never from ids; the end keeps its loss",
    ),
    KnownFailure(
        "template-without-end",
        "the template ends answers with nothing: endless generation",
        ("unsloth#416", "unsloth#419", "LLaMA-Factory#7454"),
        "mended",
        "TOK023",
        "the end-of-text token is put behind the last answer and learned",
    ),
    KnownFailure(
        "end-not-learned",
        "the end of answers carries no loss",
        ("llama-cookbook#640", "llm-course#33"),
        "refused",
        "TOK021",
        "each row must learn a stop token",
    ),
    KnownFailure(
        "no-stop-token",
        "the base has no token that ends an answer",
        ("xTuring#129",),
        "refused",
        "TOK020",
        "name one, or take another base",
    ),
    KnownFailure(
        "end-unknown-to-servers",
        "servers do not know the token that ends answers",
        ("DeepSeek-Coder#163", "launchables#4"),
        "warned",
        "TOK024",
        "the line for generation_config.json is given",
    ),
    KnownFailure(
        "accumulation-scales-loss",
        "gradient accumulation weighs short answers wrongly",
        ("transformers PR#34191", "unsloth-zoo#6", "LLaMA-Factory#5747"),
        "mended",
        "Passes",
        "sums of losses are divided by the loss tokens of the whole batch, however it is cut",
    ),
    KnownFailure(
        "disk-full",
        "days of training, and nothing saved",
        ("axolotl#2548", "LLaMA-Factory#7583", "h2o-llmstudio#214"),
        "refused",
        "check_disk",
        "the disk is measured before the run and before each save",
    ),
    KnownFailure(
        "packing-contamination",
        "attention crosses from one packed sample into another",
        ("trl#805", "trl#3067", "torchtune#892"),
        "refused",
        "check_isolation",
        "samples computed together must have the losses that they have alone",
    ),
    KnownFailure(
        "leaked-rows",
        "held-out rows that are in the training split",
        ("OpenTextShield#194", "datasets#4261"),
        "warned",
        "TOK006",
        "token for token; the audit (DATA013, DATA014) also finds the nearly equal",
    ),
    KnownFailure(
        "other-tokenizer",
        "the tokenizer belongs to another model",
        ("LLaMA-Factory#1886", "unsloth#172"),
        "refused",
        "TOK003",
        "ids beyond the embedding are refused, special ids that differ are named (TOK026)",
    ),
    KnownFailure(
        "fault-without-row",
        "a data error without the row",
        ("axolotl#879", "axolotl#1028", "autotrain-advanced#411"),
        "refused",
        "read_samples",
        "file and line of every fault, before anything is trained or paid",
    ),
)


def known_failures_table() -> list[str]:
    """The bank as lines of a Markdown table, as it stands in `docs/train.md`."""
    lines = ["| known failure | seen in | here it is | by |", "|---|---|---|---|"]
    for one in KNOWN_FAILURES:
        lines.append(f"| {one.what} | {', '.join(one.threads)} | {WORDS[one.handling]}: {one.reason} | `{one.by}` |")
    return lines
