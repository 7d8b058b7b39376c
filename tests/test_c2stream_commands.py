# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands `encode`, `decode` and `info` on 700C streams."""

import wave

import numpy as np
import pytest
import soundfile
from test_c2stream import own_codebooks

from codec2_eq import vq
from codec2_eq.cli import main
from codec2_eq.codec2 import library as libcodec2
from codec2_eq.stream700c import codec, frames


def test_encode_and_decode_files(wav, speech, tmp_path, capsys):
    c2, bit, out = (str(tmp_path / n) for n in ("a.c2", "a.bit", "a.wav"))
    assert main(["encode", str(wav), "-o", c2, "-m", "none"]) == 0
    told = capsys.readouterr().err
    assert "frames" in told
    assert "as c2enc --var" in told
    assert f"dropped the last {len(speech) % 320} samples" in told
    assert main(["encode", str(wav), "-o", bit, "-m", "none"]) == 0
    want = libcodec2.oracle_mlfeat(speech).bits
    assert (tmp_path / "a.bit").read_bytes() == want
    assert (tmp_path / "a.c2").read_bytes() == frames.HEADER + want
    assert main(["decode", c2, "-o", out]) == 0
    with wave.open(out) as decoded:
        assert decoded.getparams()[:3] == (1, 2, 8000)
        assert decoded.getnframes() == len(want) // 4 * 320
    assert main(["decode", bit, "-o", str(tmp_path / "a.raw")]) == 0
    assert (tmp_path / "a.raw").stat().st_size == len(want) // 4 * 640


def test_a_mean_that_is_not_sent_is_said(wav, tmp_path, capsys):
    out = str(tmp_path / "a.c2")
    assert main(["encode", str(wav), "-o", out, "-m", "mean_removal"]) == 0
    assert "mean_removal: changes nothing in a 700C stream" in capsys.readouterr().err
    assert main(["encode", str(wav), "-o", out, "-f", "--knots", "pick"]) == 0
    assert "changes nothing" not in capsys.readouterr().err


def test_two_passes_and_known_stations(wav, tmp_path):
    once, twice, known, state = (str(tmp_path / n) for n in ("1.c2", "2.c2", "k.c2", "s.npz"))
    assert main(["encode", str(wav), "-o", once, "--save-state", state]) == 0
    assert main(["encode", str(wav), "-o", twice, "--passes", "2"]) == 0
    assert main(["encode", str(wav), "-o", known, "--load-state", state]) == 0
    streams = [(tmp_path / n).read_bytes() for n in ("1.c2", "2.c2", "k.c2")]
    assert len({len(stream) for stream in streams}) == 1
    assert len(set(streams)) == 3


def test_own_codebooks_by_command(wav, speech, tmp_path):
    spec = ",".join(str(tmp_path / f"{i}.f32") for i in (1, 2))
    own = own_codebooks()
    for name, codebook in zip(spec.split(","), own, strict=True):
        vq.save_codebook(name, codebook)
    stream = str(tmp_path / "a.bit")
    assert main(["encode", str(wav), "-o", stream, "-m", "700c", "--codebook", spec]) == 0
    with open(stream, "rb") as handle:
        assert handle.read() == libcodec2.oracle_mlfeat(speech, eq=True, codebooks=own).bits
    assert main(["decode", stream, "-o", str(tmp_path / "a.wav"), "--codebook", spec]) == 0


def test_pipes(speech, stdin, capfdbinary):
    stdin(speech.astype("<i2").tobytes())
    assert main(["encode", "-", "-o", "-", "--raw", "-m", "none"]) == 0
    assert capfdbinary.readouterr().out == libcodec2.oracle_mlfeat(speech).bits


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.c2", b"RIFF" + bytes(40), "does not begin with C0 DE C2"),
        ("a.c2", b"", "ends within its header"),
        ("a.bit", b"", "holds no frame"),
        ("a.c2", frames.HEADER[:5] + b"\x00\x00" + bytes(8), "mode 3200"),
        ("a.c2", frames.HEADER + bytes(9), "cut; pass --partial"),
    ],
)
def test_decode_errors_are_one_line_and_leave_no_file(tmp_path, capsys, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    assert main(["decode", str(path), "-o", str(tmp_path / "a.wav")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"codec2-eq: error: {path}: ")
    assert told.count("\n") == 1
    assert message in told
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_less_than_a_frame_makes_a_stream_that_decodes_to_nothing(tmp_path, capsys):
    wav, stream, out = tmp_path / "a.wav", tmp_path / "a.c2", tmp_path / "b.wav"
    soundfile.write(wav, np.zeros(319, np.int16), 8000)
    assert main(["encode", str(wav), "-o", str(stream), "-m", "none"]) == 0
    assert stream.read_bytes() == frames.HEADER
    assert main(["decode", str(stream), "-o", str(out)]) == 0
    assert soundfile.info(out).frames == 0


def test_partial_says_what_it_drops(tmp_path, capsys):
    (tmp_path / "a.c2").write_bytes(frames.HEADER + bytes(9))
    out = tmp_path / "a.wav"
    assert main(["decode", str(tmp_path / "a.c2"), "-o", str(out), "--partial"]) == 0
    assert "dropped the last 1 bytes" in capsys.readouterr().err
    assert out.stat().st_size == 44 + 2 * 640


def test_speech_is_written_where_the_suffix_says_how(tmp_path, capsys):
    (tmp_path / "a.bit").write_bytes(bytes(8))
    assert main(["decode", str(tmp_path / "a.bit"), "-o", str(tmp_path / "a.mp3")]) == 1
    assert "suffix '.mp3' names no speech format to write" in capsys.readouterr().err


def test_info_describes_streams(speech, tmp_path, capsys):
    path = tmp_path / "a.c2"
    path.write_bytes(frames.HEADER + codec.encode(speech, model="none") + b"x")
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    facts = dict(line.split(maxsplit=1) for line in told.splitlines())
    assert facts["mode"] == "700C"
    assert int(facts["frames"]) == len(speech) // 320
    assert facts["cut_bytes"] == "1"
    path.write_bytes(b"not a stream")
    assert main(["info", str(path)]) == 1
    assert "does not begin with C0 DE C2" in capsys.readouterr().err
