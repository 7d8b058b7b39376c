# SPDX-License-Identifier: LGPL-2.1-or-later
"""One module a command: `configure` declares its options, `run` calls the library."""
