"""Audit: what is wrong with the data, how badly, where, and what mends it."""
# SPDX-License-Identifier: Apache-2.0
