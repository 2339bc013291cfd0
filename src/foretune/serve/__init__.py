"""One OpenAI-compatible API over runs and their models; empty until the stage is built."""
# SPDX-License-Identifier: Apache-2.0
