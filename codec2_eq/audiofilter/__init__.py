# SPDX-License-Identifier: LGPL-2.1-or-later
"""An equaliser as an audio filter, in front of any encoder."""
