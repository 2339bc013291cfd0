"""Evaluate: how good is the model on held-out samples, against the prompted base, and how sure are we."""

# SPDX-License-Identifier: Apache-2.0
