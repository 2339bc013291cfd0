"""Data: messages, formats, chat templates, loss masks, splits, versions and the embedded world."""
# SPDX-License-Identifier: Apache-2.0
