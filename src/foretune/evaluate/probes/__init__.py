"""Probes of a finished run: what its data, its rows and its two models show when they are asked."""
# SPDX-License-Identifier: Apache-2.0
