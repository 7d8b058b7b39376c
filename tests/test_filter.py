# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``filter``: files and pipes, formats, what is learnt, and live streams in time."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from conftest import require_package

import codec2_eq as ce
from codec2_eq.audio.writer import open_audio_output
from codec2_eq.cli import main
from codec2_eq.commands import filter as command
from codec2_eq.errors import Codec2EqError

COMMAND = [sys.executable, "-m", "codec2_eq", "filter"]


@pytest.fixture
def recording(tmp_path, speech):
    """Two channels of speech at 48 kHz, the second of them quieter."""
    path = tmp_path / "in.wav"
    line = np.repeat(np.tile(speech, 2), 6)
    soundfile.write(path, np.stack([line, line // 2], axis=1), 48000, subtype="PCM_16")
    return path


def test_a_file_is_filtered_as_by_the_class(recording, tmp_path, capsys):
    out = tmp_path / "out.wav"
    assert main(["filter", str(recording), "-o", str(out)]) == 0
    assert "out.wav: 7.02 s" in capsys.readouterr().err
    samples, rate = soundfile.read(recording, dtype="int16")
    filtering = ce.AudioEqualiser("channel_eq", rate, channels=2)
    expected = np.concatenate([filtering.process(samples), filtering.flush()])
    got, got_rate = soundfile.read(out, dtype="int16")
    assert got_rate == rate and np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("suffix", "subtype", "expected"),
    [
        (".wav", "PCM_16", "PCM_16"),
        (".wav", "PCM_24", "PCM_24"),
        (".wav", "FLOAT", "FLOAT"),
        (".flac", "PCM_16", "PCM_16"),
        (".flac", "PCM_24", "PCM_24"),
    ],
)
def test_the_output_has_the_bits_of_the_input(suffix, subtype, expected, speech, tmp_path):
    given, out = tmp_path / "in.wav", tmp_path / f"out{suffix}"
    soundfile.write(given, speech / 32768, 16000, subtype=subtype)
    assert main(["filter", str(given), "-o", str(out)]) == 0
    told = soundfile.info(out)
    assert (told.samplerate, told.channels, told.subtype) == (16000, 1, expected)
    plain = tmp_path / "plain.wav"
    soundfile.write(given, speech, 16000, subtype="PCM_16")
    assert main(["filter", str(given), "-o", str(plain)]) == 0
    difference = soundfile.read(out)[0] - soundfile.read(plain)[0]
    assert np.abs(difference).max() <= (0 if subtype == "PCM_16" else 1.1 / 32768)


def test_raw_in_raw_out_and_channels(recording, tmp_path, speech):
    raw, out = tmp_path / "in.raw", tmp_path / "out.raw"
    speech.astype("<i2").tofile(raw)
    assert main(["filter", str(raw), "-o", str(out)]) == 0
    filtering = ce.AudioEqualiser()
    expected = np.concatenate([filtering.process(speech), filtering.flush()])
    assert np.array_equal(np.fromfile(out, "<i2"), expected)
    piped = subprocess.run([*COMMAND, "--raw"], input=raw.read_bytes(), capture_output=True)
    assert piped.stdout == out.read_bytes()
    for suffix in ("wav", "flac"):
        named = tmp_path / f"raw.{suffix}"
        assert main(["filter", "--raw", str(raw), "-o", str(named)]) == 0
        assert np.array_equal(soundfile.read(named, dtype="int16")[0], expected)
    for channel, n in (("1", 1), ("mix", 1), ("all", 2)):
        wav = tmp_path / f"{channel}.wav"
        assert main(["filter", str(recording), "-o", str(wav), "--channel", channel]) == 0
        assert soundfile.info(wav).channels == n
    left, both = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("1", "all"))
    assert np.corrcoef(left, both[:, 0])[0, 1] > 0.98


def test_a_pipe_gives_the_bytes_of_the_file(recording, tmp_path):
    out = tmp_path / "out.wav"
    assert main(["filter", str(recording), "-o", str(out), "--passes", "2"]) == 0
    for passes in ("1", "2"):
        assert main(["filter", str(recording), "-o", str(out), "-f", "--passes", passes]) == 0
        done = subprocess.run(
            [*COMMAND, "--passes", passes], input=recording.read_bytes(), capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout[44:] == out.read_bytes()[44:]
        assert done.stdout[40:44] == b"\xff\xff\xff\xff"  # a length that is not known


def test_a_long_pipe_waits_for_its_second_pass_in_a_file(monkeypatch):
    monkeypatch.setattr(command, "MOST_KEPT_BYTES", 1000)
    rng = np.random.default_rng(8)
    blocks = [rng.normal(0, 1000, (n, 2)).astype(np.float32) for n in (300, 0, 17)]
    filtering = ce.AudioEqualiser("cmn", channels=2, full_scale=32768)
    again = list(command._hear_and_keep(filtering, iter(blocks)))
    assert all(np.array_equal(*pair) for pair in zip(again, blocks, strict=True))


def test_two_passes_begin_with_what_the_first_has_heard(recording, tmp_path):
    state, curve = tmp_path / "state.npz", tmp_path / "curve.json"
    once, known, twice = (tmp_path / f"{name}.wav" for name in ("once", "known", "twice"))
    options = ["--save-state", str(state), "--curve", str(curve)]
    assert main(["filter", str(recording), "-o", str(once), *options]) == 0
    assert main(["filter", str(recording), "-o", str(known), "--load-state", str(state)]) == 0
    assert main(["filter", str(recording), "-o", str(twice), "--passes", "2"]) == 0
    # the resampler's last samples come out at the end, which the first pass need not hear
    a, b, c = (soundfile.read(path)[0] for path in (once, known, twice))
    assert np.abs(b - c).max() < 0.2 * np.abs(a - c).max()
    told = json.loads(curve.read_text())
    assert told["model"] == "channel_eq" and len(told["removed_db"]) == len(told["freqs_hz"]) == 20
    assert abs(sum(told["removed_db"])) < 0.2
    # a station's state serves the other commands, and theirs this one
    vectors = tmp_path / "v.f32"
    words = ["run", str(recording), "-o", str(vectors), "-m", "channel_eq"]
    assert main([*words, "--load-state", str(state), "--save-state", str(state), "-f"]) == 0
    assert main(["filter", str(recording), "-o", str(once), "-f", "--load-state", str(state)]) == 0


@pytest.mark.parametrize("suffix", [".csv", ".png"])
def test_the_curve_as_a_table_and_a_picture(suffix, recording, tmp_path):
    require_package("matplotlib")
    curve = tmp_path / f"curve{suffix}"
    words = ["filter", str(recording), "-o", str(tmp_path / "out.wav"), "--curve", str(curve)]
    assert main(words) == 0
    if suffix == ".csv":
        assert curve.read_text().startswith("freq_hz,removed_db\n199.8,")
        assert len(curve.read_text().splitlines()) == 21
    else:
        assert curve.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "out.ogg"], "out.ogg: audio is not written as .ogg; name it .wav, .flac or .raw"),
        (["-o", "out"], "audio is not written as a file without suffix"),
        (["-m", "mean"], "removes no curve that a filter could remove instead"),
        (["--curve", "c.txt"], "c.txt: not a format for curves; name it .csv, .json or .png"),
        (["--channel", "3"], "channel 3 asked for, has 2 channels"),
        (["--load-state", "none.npz"], "none.npz: no such file"),
    ],
)
def test_errors_take_one_line(options, message, recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in options else ["-o", "out.wav"]
    assert main(["filter", str(recording), *output, *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert os.listdir(tmp_path) == ["in.wav"]


def test_a_rate_that_is_too_high_is_refused_with_its_file(tmp_path, speech, capsys):
    soundfile.write(tmp_path / "in.wav", speech, 96000)
    assert main(["filter", str(tmp_path / "in.wav"), "-o", str(tmp_path / "out.wav")]) == 1
    assert "in.wav: sample rate 96000 Hz: at most 48000 Hz can be filtered" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("at", [1, 5, 7])
def test_flac_on_a_full_disk(tmp_path, monkeypatch, capfd, at):
    """libsndfile writes through callbacks, out of which no error comes."""
    calls = []

    def write(self, data):
        calls.append(len(data))
        if len(calls) >= at:
            raise Codec2EqError("a.flac", "disk full", "free some space or write elsewhere")
        return os.write(self.fileno(), data)

    monkeypatch.setattr("codec2_eq.files.OutputFile.write", write)
    noise = np.random.default_rng(0).integers(-9000, 9000, (40_000, 1)).astype(np.int16)
    with pytest.raises(Codec2EqError, match="disk full"):
        with open_audio_output(
            tmp_path / "a.flac", rate=8000, channels=1, sample_format="s16"
        ) as out:
            for block in np.split(noise, 8):
                out.write(block)
    assert len(calls) >= at and list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_flac_says_what_it_cannot_hold(tmp_path):
    with (
        pytest.raises(ce.Codec2EqError, match="FLAC cannot hold 9 channels at 8000 Hz"),
        open_audio_output(tmp_path / "a.flac", rate=8000, channels=9, sample_format="s16"),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(60)
def test_impulses_come_out_in_time(tmp_path):
    """Through fifos, in blocks of 10 ms: each impulse within 20 ms of samples after it went in."""
    block, clicks = 480, range(5, 100, 9)
    samples = np.zeros((100 * block, 1), "<i2")
    samples[[i * block + 100 for i in clicks]] = 10000
    given, taken = tmp_path / "in.fifo", tmp_path / "out.fifo"
    for path in (given, taken):
        os.mkfifo(path)
    soundfile.write(tmp_path / "head.wav", samples[:0], 48000)
    head = (tmp_path / "head.wav").read_bytes()[:40] + b"\xff\xff\xff\xff"
    process = subprocess.Popen([*COMMAND, str(given), "-o", str(taken), "--level", "keep"])
    into = os.open(given, os.O_WRONLY)
    os.write(into, head)
    got = bytearray()
    with open(taken, "rb", buffering=0) as out:
        for end in range(block, len(samples) + 1, block):
            os.write(into, samples[end - block : end].tobytes())
            while len(got) < 44 + 2 * (end - 960):  # 20 ms behind
                got += out.read(1 << 16)
        os.close(into)
        while part := out.read(1 << 16):
            got += part
    assert process.wait(30) == 0
    heard = np.frombuffer(bytes(got[44:]), "<i2")
    assert len(heard) == len(samples)
    for i in clicks:
        assert 0 <= np.argmax(np.abs(heard[i * block : (i + 1) * block])) - 100 < 48  # 1 ms


@pytest.mark.slow
def test_a_live_stream_keeps_time(tmp_path, speech):
    """In real time, 10 ms of sound each 10 ms: none is later than a player's buffer of 0.1 s."""
    samples = np.tile(speech, 2)[: 4 * 8000].astype("<i2")
    process = subprocess.Popen(
        [*COMMAND, "--raw"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdin and process.stdout
    arrivals: list[tuple[float, int]] = []

    def listen() -> None:
        n_bytes = 0
        while part := process.stdout.read(1 << 16):  # type: ignore[union-attr]
            n_bytes += len(part)
            arrivals.append((time.monotonic(), n_bytes // 2))

    process.stdin.write(samples[:80].tobytes())
    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(1.5)  # the command starts
    start = time.monotonic()
    for i in range(80, len(samples), 80):
        time.sleep(max(0.0, start + i / 8000 - time.monotonic()))
        process.stdin.write(samples[i : i + 80].tobytes())
    process.stdin.close()
    listener.join(10)
    assert process.wait(10) == 0
    process.stdout.close()
    assert arrivals[-1][1] == len(samples)
    sent = np.array([n for _, n in arrivals[:-1]]) / 8000
    late = np.array([at - start for at, _ in arrivals[1:]]) - sent  # what a player waits for
    assert late[1:].max() < 0.25


def test_ctrl_c_ends_a_live_stream_and_keeps_the_state(tmp_path, speech):
    import signal

    state = tmp_path / "state.npz"
    process = subprocess.Popen(
        [*COMMAND, "--raw", "--save-state", str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    process.stdin.write(speech.astype("<i2").tobytes())
    process.stdin.flush()
    process.stdout.read(len(speech))  # half of it
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.stdin.close()
    process.stdout.close()
    assert process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()
    assert len(ce.AudioEqualiser().state()) <= len(np.load(state).files)
