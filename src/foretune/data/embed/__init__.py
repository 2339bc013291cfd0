"""Embeddings: texts as vectors through one door, their clusters with readable names, and their map."""
# SPDX-License-Identifier: Apache-2.0
