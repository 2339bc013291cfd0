"""The planted-fault suite: runs with one known fault or none, and how well `diagnose` names it."""
# SPDX-License-Identifier: Apache-2.0
