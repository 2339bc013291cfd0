"""Collect: read the sources, split them, and name the result by its content."""
# SPDX-License-Identifier: Apache-2.0
