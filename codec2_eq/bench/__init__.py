# SPDX-License-Identifier: LGPL-2.1-or-later
"""How good an equaliser is: speech, filters, measures, tables."""
