# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python -m codec2_eq``: the same as the command ``codec2-eq``."""

import sys

from codec2_eq.cli import main

sys.exit(main())
