"""foretune: decide, predict, audit, fine-tune, evaluate and diagnose; know before you tune."""
# SPDX-License-Identifier: Apache-2.0

__version__ = "0.1.0"
