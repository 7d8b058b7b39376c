# SPDX-License-Identifier: LGPL-2.1-or-later
"""What files hold, and what is wrong with a recording."""
