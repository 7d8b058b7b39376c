# SPDX-License-Identifier: LGPL-2.1-or-later
"""All formats but WAV and headerless samples, through libsndfile."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from numpy.typing import NDArray

from codec2_eq.audio.containers import find_extent
from codec2_eq.audio.extent import Part
from codec2_eq.audio.flac import restated
from codec2_eq.audio.mpeg import is_mpeg
from codec2_eq.audio.ogg import unwrapped
from codec2_eq.audio.pcm import FULL_SCALE, to_scale
from codec2_eq.audio.wav import READ_BYTES, HeaderReader
from codec2_eq.audio.window import FileWindow
from codec2_eq.errors import Codec2EqError
from codec2_eq.files import read_error
from codec2_eq.system import flush_c_streams

if TYPE_CHECKING:
    import soundfile

_MOST_FRAMES = 1 << 62  # more than any file has

_SPOOLED_MAGIC = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"BW64",
    b"riff",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b".snd",
    b"caff",
    b"NIST_1A",
    b"Creative Voi",
)

_INT16_SUBTYPES = frozenset(
    "PCM_S8 PCM_U8 PCM_16 ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 G723_24 G723_40 VOX_ADPCM "
    "NMS_ADPCM_16 NMS_ADPCM_24 NMS_ADPCM_32 DWVW_12 DWVW_16 DPCM_8 DPCM_16 ALAC_16".split()
)
"""What libsndfile decodes to 16 bits or fewer: read as int16, exactly as it is."""

_FOREIGN = (
    (rb"....ftyp", "MP4 (.m4a)"),
    (rb"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (rb"\x30\x26\xb2\x75", "Windows Media (.wma)"),
    (rb"#!AMR", "AMR"),
    (rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", "AAC"),
    (rb"\x0b\x77", "AC-3"),
    (rb"wvpk", "WavPack"),
    (rb"MAC ", "Monkey's Audio"),
    (rb"TTA1", "True Audio"),
    (rb"MP\+|MPCK", "Musepack"),
    (rb"FLV\x01", "Flash"),
    (rb"DSD |FRM8", "DSD"),
    (rb"\.RMF|\.ra\xfd", "RealAudio"),
    (rb"RIFF....AVI ", "AVI"),
    (rb"\x02?#!SILK", "SILK"),
)
"""How files of formats begin that libsndfile does not read, and mostly ffmpeg does; their names."""

_STATES_TOO_LITTLE = "holds more samples than its header states; all are read"

_NO_FORMAT, _NO_SUCH_ENCODING = 1, 4  # errors of libsndfile, SF_ERR_…
_SAID_CHARS = 200  # of what a decoder prints


def open_decoded(
    handle: IO[bytes], header: HeaderReader, file_bytes: int | None, files: contextlib.ExitStack
) -> DecodedSource:
    """Open audio of which `header` has read the beginning; a pipe is first spooled to a file.

    Raises Codec2EqError if it is none that libsndfile reads.
    """
    for magic, kind in _FOREIGN:
        if re.match(magic, header.seen, re.DOTALL):
            raise _foreign(header.name, f"is {kind}")
    if file_bytes is not None:
        return DecodedSource(handle.fileno(), header.name, files)
    if not header.seen.startswith(_SPOOLED_MAGIC) and not is_mpeg(header.seen):
        raise Codec2EqError(
            header.name,
            "not WAV, FLAC, OGG, MP3 or other audio with a header",
            "pass --raw for headerless 16-bit 8 kHz samples",
        )
    return DecodedSource(_spool(header, files), header.name, files)


def _foreign(name: str, what: str) -> Codec2EqError:
    source = "-" if name == "stdin" else f"'{name}'"
    return Codec2EqError(
        name,
        f"{what}, which cannot be read here",
        f"let ffmpeg decode it: ffmpeg -i {source} -f wav - | codec2-eq run - -o OUT",
    )


def _spool(header: HeaderReader, files: contextlib.ExitStack) -> int:
    """Copy a pipe to an unnamed temporary file; return its descriptor."""
    spool = files.enter_context(tempfile.TemporaryFile())
    try:
        spool.write(header.seen)
        shutil.copyfileobj(header.handle, spool, READ_BYTES)
        spool.flush()
    except OSError as error:
        raise Codec2EqError(
            header.name,
            f"cannot be stored in {tempfile.gettempdir()}: {error.strerror}",
            "set TMPDIR to a folder with room, or pipe WAV, which needs none",
        ) from error
    return spool.fileno()


class DecodedSource:
    """Samples that libsndfile decodes from a regular file, of all recordings joined in it."""

    def __init__(self, descriptor: int, name: str, files: contextlib.ExitStack) -> None:
        self._name = name
        self._descriptor = descriptor
        self._files = files
        self.warnings: list[str] = []
        try:
            extent = find_extent(descriptor)
        except OSError as error:
            raise read_error(name, error) from error
        except Codec2EqError as error:
            raise error.of(name) from error
        self.warnings.extend(extent.problems)
        self._parts = extent.parts
        self._wrapped = extent.wrapped
        self._file = self._open(0)
        self.rate = self._file.samplerate
        self.channels = self._file.channels
        subtype = self._file.subtype
        self._exact = subtype in _INT16_SUBTYPES
        compressed = subtype.startswith("MPEG") or subtype in ("VORBIS", "OPUS")
        self.sample_format = "s16" if self._exact or compressed else "s24"
        if subtype in ("FLOAT", "DOUBLE", "PCM_32", "ALAC_32"):
            self.sample_format = "f32"
        # A FLAC made on a pipe states no length; libsndfile then reports the largest number.
        stated = self._file.frames
        if len(self._parts) == 1:
            stated = self._parts[0].n_samples or stated
        self.stated_frames = stated if stated < _MOST_FRAMES and len(self._parts) < 2 else None
        # MP3 may only estimate its length, and adds silence at both ends.
        self.slack_frames = self.rate // 5 if subtype.startswith("MPEG") else 0
        self.duration_s = None if self.stated_frames is None else stated / self.rate

    def blocks(self, block_frames: int) -> Iterator[NDArray[Any]]:
        """Yield blocks of at most block_frames until the decoder gives no more."""
        limit = max(1, min(block_frames, READ_BYTES // (4 * self.channels)))
        n_read = 0
        for part in range(max(1, len(self._parts))):
            if part:
                self._file = self._open(part)
                self._require_alike(n_read)
            while len(block := self._read(limit, "int16" if self._exact else "float32", n_read)):
                n_read += len(block)
                yield block if self._exact else to_scale(block, FULL_SCALE)
            self._check_flac_end()

    def _open(self, part: int) -> soundfile.SoundFile:
        """Open a part, as it is in the file if libsndfile finds all of it there."""
        if not self._parts:
            return self._open_at(self._descriptor)
        here = self._parts[part]
        if len(self._parts) == 1 and here.n_samples is not None and not self._wrapped:
            with contextlib.suppress(Codec2EqError):
                guess = self._open_at(self._descriptor)
                if guess.frames >= here.n_samples or not here.head:
                    return guess
        return self._open_at(self._copy(here))

    def _open_at(self, descriptor: int) -> soundfile.SoundFile:
        import soundfile

        self._reading = descriptor
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            with self._overheard():
                return self._files.enter_context(_open_forward(descriptor, soundfile))
        except soundfile.LibsndfileError as error:
            if error.code == _NO_SUCH_ENCODING:
                raise _foreign(self._name, "has an encoding") from error
            raw = "; if it is headerless 16-bit 8 kHz samples, name it .raw or pass --raw"
            reason = error.error_string.rstrip(".")
            if "possibly a pipe" in reason:  # what it says of MPEG audio that it cannot begin
                reason = "no frame of MPEG audio that can be decoded"
            raise Codec2EqError(
                self._name,
                f"not audio that libsndfile reads ({reason})",
                "convert it to WAV or FLAC, say with ffmpeg" + raw * (error.code == _NO_FORMAT),
            ) from error

    def _copy(self, part: Part) -> int:
        """Copy a part of the file to a temporary one: libsndfile reads a whole file only."""
        copy = self._files.enter_context(tempfile.TemporaryFile())
        copy.write(part.head)
        if self._wrapped:
            copy.writelines(unwrapped(self._descriptor, part))
        else:
            start, end = part.start, part.end
            os.lseek(self._descriptor, start, os.SEEK_SET)
            while start < end:
                data = os.read(self._descriptor, min(READ_BYTES, end - start))
                if not data:
                    break
                copy.write(data)
                start += len(data)
        copy.flush()
        if head := restated(FileWindow(copy.fileno())):
            copy.seek(0)
            copy.write(head)
            copy.flush()
            self.warnings += {_STATES_TOO_LITTLE}.difference(self.warnings)
        return copy.fileno()

    def _require_alike(self, n_read: int) -> None:
        if (self._file.samplerate, self._file.channels) != (self.rate, self.channels):
            raise Codec2EqError(
                self._name,
                f"after {n_read / self.rate:.1f} s a recording of another rate or number of "
                f"channels follows ({self._file.samplerate} Hz, {self._file.channels})",
                "split it into files",
            )

    def _check_flac_end(self) -> None:
        """Warn if bytes are left that libFLAC has not asked for: the stated length is too small."""
        if self._file.format == "FLAC":
            n_left = os.fstat(self._reading).st_size - os.lseek(self._reading, 0, os.SEEK_CUR)
            if n_left > 0:
                self.warnings.append(
                    f"has {n_left} bytes and more after the end stated in its header, left out"
                )

    def _read(self, n_frames: int, dtype: str, n_read: int) -> NDArray[Any]:
        import soundfile

        try:
            with self._overheard():
                return self._file.read(n_frames, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removeprefix("Error : ").rstrip(".")
            raise Codec2EqError(
                self._name,
                f"cannot be decoded between {n_read / self.rate:.1f} and "
                f"{(n_read + n_frames) / self.rate:.1f} s ({reason}): cut or damaged",
                "fetch or record it again",
            ) from error

    @contextlib.contextmanager
    def _overheard(self) -> Iterator[None]:
        """Turn what the decoder prints meanwhile into one warning."""
        with _captured_output() as said:
            yield
        text = " ".join(line for line in said if "seeking" not in line)  # which is not done here
        if text and not any(each.startswith("its decoder says") for each in self.warnings):
            self.warnings.append(f"its decoder says: {text[:_SAID_CHARS]}")


_capture_lock = threading.Lock()


@contextlib.contextmanager
def _captured_output() -> Iterator[list[str]]:
    """Catch what C code prints to the standard streams; the list of lines is filled at the end.

    Decoders print anywhere, even to standard output, which may carry our data.
    """
    said: list[str] = []
    with _capture_lock, contextlib.ExitStack() as undo:
        flush_c_streams()
        sink = undo.enter_context(tempfile.TemporaryFile(buffering=0))
        for descriptor, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if stream is None:  # closed at the start: its number may be any file's by now
                continue
            kept = os.dup(descriptor)
            os.dup2(sink.fileno(), descriptor)
            undo.callback(os.close, kept)
            undo.callback(os.dup2, kept, descriptor)
        try:
            yield said
        finally:
            flush_c_streams()
            sink.seek(0)
            if text := sink.read(4096).decode("utf-8", "replace"):
                said += [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _open_forward(descriptor: int, soundfile_module: Any) -> soundfile.SoundFile:
    """Open a file to be read from beginning to end.

    soundfile seeks to where it is after each read of a file that can seek. In MP3 that loses the
    decoder's memory, and with it the sound of the next frames; it is wasted time anywhere.
    """

    class Forward(soundfile_module.SoundFile):
        def seekable(self) -> bool:
            return False

    return Forward(descriptor, closefd=False)
