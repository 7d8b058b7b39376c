# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page to look at and listen to."""
