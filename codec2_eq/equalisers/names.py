# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names of the default equalisers, in a module that is cheap to import."""

DEFAULT_MODEL = "mean_removal"
"""The default for vectors."""

ENCODER_MODEL = "channel_eq"
"""The default in front of an encoder, ours or another: its streams sound best."""
