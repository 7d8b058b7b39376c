# SPDX-License-Identifier: LGPL-2.1-or-later
"""Equalisers: rate-K vectors in, shapes out; classic ones and trained networks."""
