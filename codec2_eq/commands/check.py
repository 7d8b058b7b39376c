# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq check: diagnose a microphone."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from codec2_eq import messages
from codec2_eq.commands import options, progress

if TYPE_CHECKING:
    from codec2_eq.inspection.faults import Fault
    from codec2_eq.inspection.measurements import Measurements

EXIT_SHOULD_CHANGE = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="recordings; - is stdin")
    options.add_json(parser, "print one JSON object per recording")
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="draw the curve, levels and spectrum of one recording as a PNG (extra report)",
    )
    options.add_force(parser)
    options.add_raw(parser)


def run(args: argparse.Namespace) -> int:
    """Measure each recording; return 3 if any has a fault, 1 if any could not be read."""
    from codec2_eq.errors import Codec2EqError

    if args.picture:
        if len(args.inputs) > 1:
            raise Codec2EqError(
                args.picture,
                f"one picture for {len(args.inputs)} recordings",
                "check one at a time",
            )
        from codec2_eq.pictures import require_picture_file

        require_picture_file(args.picture, force=args.force)
    code = 0
    for path in args.inputs:
        try:
            code = max(code, _check(args, path), key=_gravity)
        except Codec2EqError as error:
            if len(args.inputs) == 1:
                raise
            messages.print_error(str(error))
            code = 1
    return code


def _gravity(code: int) -> int:
    return (0, EXIT_SHOULD_CHANGE, 1).index(code)


def _check(args: argparse.Namespace, path: str) -> int:
    from pathlib import Path

    from codec2_eq.audio import open_native
    from codec2_eq.inspection.faults import find_faults
    from codec2_eq.inspection.measurements import examine

    with open_native(path, raw=args.raw) as audio:
        measured = examine(audio, name=audio.name, rate=audio.rate)
    faults = find_faults(measured)
    if args.json:
        _print_json(measured, faults)
    else:
        _print_words(measured, faults)
    if args.picture:
        from codec2_eq.inspection.picture import draw
        from codec2_eq.pictures import save_picture

        save_picture(draw(measured), Path(args.picture), force=args.force)
    return EXIT_SHOULD_CHANGE if faults else 0


def _print_json(measured: Measurements, faults: list[Fault]) -> None:
    import dataclasses

    listed = [dataclasses.asdict(fault) for fault in faults]
    progress.print_json(measured.numbers() | {"faults": listed})


def _print_words(f: Measurements, faults: list[Fault]) -> None:
    bass, mid, treble = f.tone_db
    hum = "none" if f.hum_hz is None else f"{f.hum_hz:.0f} Hz at {f.hum_dbfs:.0f} dBFS"
    low, high = (
        "open" if edge is None else f"{edge:.0f} Hz" for edge in (f.low_edge_hz, f.high_edge_hz)
    )
    print(f"{f.name}: {f.duration_s:.1f} s, {f.rate:.0f} Hz, channels {f.channels}")
    print(
        f"  speech {f.active_dbfs:.0f} dBFS, peak {f.peak_dbfs:.1f}, headroom {-f.peak_dbfs:.1f} dB"
    )
    print(f"  noise {f.noise_dbfs:.0f} dBFS, {f.snr_db:.0f} dB below the speech; hum {hum}")
    print(f"  clipped {100 * f.clipped_share:.2g} %, offset {100 * f.offset:+.2f} %")
    print(f"  band from {low} to {high}")
    print(f"  microphone and voice: bass {bass:+.0f}, mid {mid:+.0f}, treble {treble:+.0f} dB;")
    print("  at the 20 bands " + " ".join(f"{c:+.0f}" for c in f.curve_db))
    print(
        f"  700C distortion {f.distortion_db2:.1f} dB^2, "
        f"{f.distortion_equalised_db2:.1f} with channel_eq"
    )
    for fault in faults:
        print(f"  {fault.name}: {fault.found}; {fault.advice}")
    if not faults:
        print("  fine: nothing to change")
    sys.stdout.flush()
