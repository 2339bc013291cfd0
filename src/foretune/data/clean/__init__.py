"""Cleaning: a recipe of logged steps makes a new data set version of an old one; nothing is changed in place."""
# SPDX-License-Identifier: Apache-2.0
