"""Models: where a base is found, its shape without torch, loading, adapters and saving."""
# SPDX-License-Identifier: Apache-2.0
