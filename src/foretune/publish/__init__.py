"""Merge, licence check, model card and release folder of a run; empty until the stage is built."""
# SPDX-License-Identifier: Apache-2.0
