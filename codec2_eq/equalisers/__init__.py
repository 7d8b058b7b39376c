# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalisers: rate-K vectors in, shapes out; classic ones and trained networks."""

DEFAULT = "mean_removal"
"""The equaliser of commands that are not told another; here, because it must cost no import."""
