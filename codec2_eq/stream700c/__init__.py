# SPDX-License-Identifier: LGPL-2.1-or-later
"""Codec 2 700C streams: bits, levels, encoder and decoder."""
