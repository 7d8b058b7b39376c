#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/python" "$0" "$@"'
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Train models/mean_removal: the same as ``codec2-eq train mean_removal``, from a source tree."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codec2_eq.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", "mean_removal", *sys.argv[1:]]))
