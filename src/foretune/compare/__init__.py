"""Which variant is better: paired on the same samples, and on split traffic with intervals that survive peeking."""
# SPDX-License-Identifier: Apache-2.0
