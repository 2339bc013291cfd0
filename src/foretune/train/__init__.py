"""Fit the model: full, LoRA, soft prompt, classification head or pretraining, in one loop."""
# SPDX-License-Identifier: Apache-2.0
