# SPDX-License-Identifier: LGPL-2.1-or-later
"""codec2-eq filter: audio to equalised audio, for any encoder."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from codec2_eq.commands import options, progress
from codec2_eq.equalisers.names import ENCODER_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from codec2_eq.audio.stream import NativeStream
    from codec2_eq.audiofilter.equaliser import AudioEqualiser
    from codec2_eq.equalisers.equaliser import Equaliser
    from codec2_eq.equalisers.stream import State


MOST_KEPT_BYTES = 64 << 20
"""Most of a pipe to keep in memory for a second pass: 6 minutes of 48 kHz mono."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_input(parser, "speech: audio at 8 to 48 kHz")
    options.add_output(parser, "filtered audio: .wav, .flac or .raw; WAV on a pipe")
    parser.add_argument(
        "--channel",
        default="all",
        metavar="N|mix|all",
        help="filter all channels alike, one of them, from 1, or their mean (default: %(default)s)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the input is headerless 16-bit mono 8 kHz, and so is the output unless its name ends "
        "in .wav or .flac",
    )
    options.add_model(parser, default=ENCODER_MODEL)
    parser.add_argument(
        "--level",
        choices=("auto", "keep"),
        default="auto",
        help="adjust the speech level to suit 700C, or keep it (default: %(default)s)",
    )
    parser.add_argument(
        "--denoise",
        action="store_true",
        help="reduce noise first, with RNNoise (extra denoise); use it if `check` finds noise",
    )
    options.add_passes(parser)
    options.add_state(parser)
    parser.add_argument(
        "--curve", metavar="FILE", help="write the curve that was removed: .csv, .json or .png"
    )
    parser.set_defaults(in_place=True)


def run(args: argparse.Namespace) -> None:
    """Filter block by block; what was learnt is kept even if a live stream is ended by Ctrl-C."""
    from codec2_eq.audio.writer import open_audio_output, require_audio_suffix
    from codec2_eq.audiofilter.curve_file import require_curve_file
    from codec2_eq.equalisers import state_file
    from codec2_eq.equalisers.equaliser import load_equaliser

    equaliser = load_equaliser(args.model)
    require_audio_suffix(args.output, raw=args.raw)
    if args.curve:
        require_curve_file(args.curve, force=args.force)
    state = state_file.prepare(
        equaliser, load=args.load_state, save=args.save_state, force=args.force, of_filter=True
    )
    with _open(args) as audio:
        blocks = _chosen(audio, args)
        filtering = _filter(args, equaliser, audio, state)
        if args.passes == 2:
            blocks = _hear(args, filtering, blocks)
            filtering = _filter(args, equaliser, audio, filtering.state())
        n_samples = 0
        try:
            with open_audio_output(
                args.output,
                rate=audio.rate,
                channels=filtering.channels,
                sample_format=audio.sample_format,
                raw=args.raw,
                force=args.force,
            ) as out:
                for block in blocks:
                    out.write(filtering.process(block))
                    n_samples += len(block)
                out.write(filtering.flush())
        except (BrokenPipeError, KeyboardInterrupt, SystemExit):  # how live streams end
            _write_what_was_learnt(args, filtering)
            raise
    _write_what_was_learnt(args, filtering)
    figures = {
        "output": args.output,
        "seconds": n_samples / audio.rate,
        "rate_hz": audio.rate,
        "channels": filtering.channels,
        "latency_s": filtering.latency_s,
        "curve_db": [round(float(value), 2) for value in filtering.curve_db],
    }
    line = f"{args.output}: {n_samples / audio.rate:.2f} s"
    progress.tell_figures(args, figures, *[line] * (args.output != "-"), data=[args.output])


def _open(args: argparse.Namespace, *, log: bool = True) -> NativeStream:
    from codec2_eq.audio.stream import open_native

    channel = None if args.channel in ("all", "mix") else args.channel
    return open_native(args.input, channel=channel, raw=args.raw, log=log)


def _chosen(audio: NativeStream, args: argparse.Namespace) -> Iterable[NDArray[Any]]:
    """Return blocks (n, channels) of the chosen channels, denoised with --denoise."""
    blocks: Iterable[NDArray[Any]] = audio
    if args.channel == "mix":
        blocks = (block.mean(axis=1, dtype="float32", keepdims=True) for block in audio)
    if not args.denoise:
        return blocks
    from codec2_eq.audiofilter.denoise import Denoiser

    denoiser = Denoiser(audio.rate, audio.channels if args.channel == "all" else 1)
    return denoiser.run(blocks)


def _filter(
    args: argparse.Namespace, equaliser: Equaliser, audio: NativeStream, state: State | None
) -> AudioEqualiser:
    """Make the filter of a recording; it starts from what an earlier one has learnt."""
    from codec2_eq.audio.pcm import FULL_SCALE
    from codec2_eq.audiofilter.equaliser import AudioEqualiser
    from codec2_eq.errors import Codec2EqError

    try:
        filtering = AudioEqualiser(
            equaliser,
            audio.rate,
            level=args.level,
            channels=audio.channels if args.channel == "all" else 1,
            full_scale=FULL_SCALE,
        )
    except Codec2EqError as error:
        raise Codec2EqError(audio.name, str(error)) from error
    if state is not None:
        filtering.restore(state)
    return filtering


def _hear(
    args: argparse.Namespace, filtering: AudioEqualiser, blocks: Iterable[NDArray[Any]]
) -> Iterable[NDArray[Any]]:
    """Hear a recording to its end; return its blocks for the second pass."""
    from codec2_eq.files import is_pipe

    if is_pipe(args.input):
        return _hear_and_keep(filtering, blocks)
    with _open(args, log=False) as audio:
        for block in _chosen(audio, args):
            filtering.hear(block)
    return blocks


def _hear_and_keep(
    filtering: AudioEqualiser, blocks: Iterable[NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """Hear a pipe to its end; return its blocks, which a temporary file holds if they are many."""
    import tempfile

    import numpy as np

    kept = tempfile.SpooledTemporaryFile(MOST_KEPT_BYTES)
    shapes = []
    for block in blocks:
        filtering.hear(block)
        kept.write(np.ascontiguousarray(block, np.float32).tobytes())
        shapes.append(block.shape)
    kept.seek(0)
    return _kept_blocks(kept, shapes)


def _kept_blocks(
    kept: IO[bytes], shapes: Sequence[tuple[int, ...]]
) -> Iterator[NDArray[np.float32]]:
    import numpy as np

    with kept:
        for shape in shapes:
            content = kept.read(math.prod(shape) * np.dtype(np.float32).itemsize)
            yield np.frombuffer(content, np.float32).reshape(shape)


def _write_what_was_learnt(args: argparse.Namespace, filtering: AudioEqualiser) -> None:
    from codec2_eq.audiofilter.curve_file import write_curve
    from codec2_eq.equalisers.state_file import save_state

    if args.save_state:
        save_state(args.save_state, filtering.model, filtering, force=args.force)
    if args.curve:
        write_curve(args.curve, filtering.curve_db, model=filtering.model.name, force=args.force)
