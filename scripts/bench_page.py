# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of what was measured: its tables, its picture and the machine; for bench.py."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Table:
    """Rows of one table of the page."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table under its title."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.header) + " |"]
        lines.append("|" + "---|" * len(self.header))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def machine() -> str:
    """Describe the machine in a line."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} {platform.machine()}"
    )


def draw(table: Table, path: Path) -> None:
    """Draw the speeds of the first table as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row[0] for row in table.rows][::-1]
    speeds = [float(row[2]) for row in table.rows][::-1]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.36 * len(names) + 1), layout="constrained")
    colours = ["0.6" if "codec2" in name or "c2enc" in name else "tab:blue" for name in names]
    bars = axes.barh(names, speeds, color=colours)
    axes.bar_label(bars, labels=[f"{speed:.1f}" for speed in speeds], padding=3)
    axes.set_xlabel("speed, times c2enc 700C (CPU time)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.savefig(path, dpi=100)


def update_page(path: Path, text: str) -> None:
    """Replace the measured part of a page, between its two marks; keep what people wrote."""
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    page = path.read_text() if path.exists() else f"# Performance\n\n{begin}\n{end}\n"
    head, _, rest = page.partition(begin)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
