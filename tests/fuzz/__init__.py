# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged and hostile files for every reader: `make fuzz`, or in tests/ `python -m fuzz --help`."""
