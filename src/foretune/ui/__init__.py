"""What a person looks at: the report of a run, drawn from its records alone."""
# SPDX-License-Identifier: Apache-2.0
