"""The procedural world that the embedded base model learns from and the init templates draw from."""
# SPDX-License-Identifier: Apache-2.0
