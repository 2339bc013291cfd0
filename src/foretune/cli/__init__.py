"""The command line: parse, call, show; one command a verb."""
# SPDX-License-Identifier: Apache-2.0
