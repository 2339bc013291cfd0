"""Inference in this process: tokens in, tokens out; messages in and out."""
# SPDX-License-Identifier: Apache-2.0
