# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small valid files of every kind that is read; synthetic, so that no recording is needed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import soundfile

from codec2_eq.audio.writer import WavWriter
from codec2_eq.audiofilter.equaliser import AudioEqualiser
from codec2_eq.equalisers.equaliser import load_equaliser, models_dir
from codec2_eq.equalisers.state_file import save_state
from codec2_eq.extraction import extract
from codec2_eq.stream700c.codec import encode
from codec2_eq.stream700c.frames import HEADER
from codec2_eq.vectors import VectorWriter
from codec2_eq.vectors.mlfeat import RECORD_FLOATS, SHORT_FLOATS
from fuzz.corpora import make_corpora

FORMATS = (
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW")),
    *(("WAV", subtype) for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32")),
    *(("RF64", "PCM_16"), ("WAVEX", "PCM_32"), ("W64", "PCM_16"), ("FLAC", "PCM_16")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")),
    *(("AIFF", "FLOAT"), ("AU", "ULAW"), ("CAF", "ALAC_16"), ("NIST", "PCM_16")),
    *(("VOC", "PCM_16"), ("SDS", "PCM_16"), ("SVX", "PCM_16"), ("PAF", "PCM_16")),
    *(("MAT5", "PCM_16"), ("PVF", "PCM_16"), ("XI", "DPCM_16"), ("AVR", "PCM_16")),
)


def voice(seconds: float = 0.4, f0_hz: float = 120.0) -> np.ndarray:
    """Return a buzz at 8 kHz, int16 (n,)."""
    time_s = np.arange(int(8000 * seconds)) / 8000
    harmonics = np.arange(1, 25)[:, np.newaxis]
    waves = np.sin(2 * np.pi * f0_hz * harmonics * time_s) / harmonics
    return (waves.sum(axis=0) * 5000).astype(np.int16)


def write_seeds(folder: Path) -> dict[str, list[bytes]]:
    """Write what other readers need into a folder; return the contents of all seeds by kind."""
    speech = voice()
    frames = extract(speech)
    seeds: dict[str, list[bytes]] = {"audio": [_audio(folder, *each) for each in FORMATS]}
    out = io.BytesIO()
    stereo = WavWriter(out, rate=16000, channels=2, sample_format="s24")
    stereo.write(np.stack([speech, speech // 2], axis=1).astype(np.float32))
    stereo.finish()
    seeds["audio"].append(out.getvalue())
    for suffix in ("f32", "npy", "npz"):
        path = folder / f"good.{suffix}"
        with VectorWriter(path, model="none", force=True) as writer:
            writer.write(frames.vectors, frames)
        seeds[suffix] = [path.read_bytes()]
    seeds["npz"].append(_compressed(folder / "good.npz"))
    book = np.random.default_rng(0).normal(0, 5, (16, 20)).astype("<f4")
    book -= book.mean(axis=1, keepdims=True)
    seeds["codebook.f32"] = [book.tobytes()]
    np.save(folder / "book.npy", book)
    seeds["codebook.npy"] = [(folder / "book.npy").read_bytes()]
    stream = encode(speech, model="none")
    seeds["c2"] = [HEADER + stream]
    seeds["bits"] = [stream]
    seeds["network"] = [path.read_bytes() for path in sorted(models_dir().glob("*.npz"))]
    seeds["card"] = [path.read_bytes() for path in sorted(models_dir().glob("*.json"))]
    seeds["list"] = [b"a.wav\nb/c.flac\r\n", "\ufeffa.wav\nh\u00f6r.wav\n".encode("utf-16")]
    seeds["scp"] = [b"utt1 a.wav\nutt2 b.flac\nutt3 sox a.wav -t wav - |\n"]
    seeds["manifest"] = [_nemo(), _lhotse()]
    seeds["speakers"] = [b"s0/a.wav anna\ns1/b.flac bert\nc bert\n"]
    seeds["shapes"] = [b"boom\nmic17 # a comment\nresponse.wav\n"]
    seeds["response"] = [_audio(folder, "WAV", "FLOAT"), _audio(folder, "AIFF", "PCM_16")]
    (folder / "response.wav").write_bytes(seeds["response"][0])
    seeds["keras"] = [path.read_bytes() for path in sorted(models_dir().glob("*.keras"))]
    seeds["state"] = _states(folder, frames.vectors, speech)
    seeds["mlfeat"] = [
        np.random.default_rng(1).normal(0, 9, (10, n_floats)).astype("<f4").tobytes()
        for n_floats in (SHORT_FLOATS, RECORD_FLOATS)
    ]
    seeds |= make_corpora(speech, folder)
    return seeds


def _states(folder: Path, vectors: np.ndarray, speech: np.ndarray) -> list[bytes]:
    """What an equaliser and an audio filter have learnt."""
    path = folder / "good.state"
    equaliser = load_equaliser("channel_eq")
    found = []
    for learner in (equaliser.stream(), AudioEqualiser("channel_eq", 8000)):
        learner.process(speech if isinstance(learner, AudioEqualiser) else vectors)
        save_state(path, equaliser, learner, force=True)
        found.append(path.read_bytes())
    return found


def _audio(folder: Path, kind: str, subtype: str) -> bytes:
    path = folder / "seed.audio"
    rate = {"AVR": 11025, "OGG": 16000, "MP3": 16000}.get(kind, 8000)
    soundfile.write(path, voice(), rate, format=kind, subtype=subtype)
    return path.read_bytes()


def _compressed(path: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            copy = zipfile.ZipInfo(info.filename)  # without the time of day
            copy.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(copy, source.read(info))
    return out.getvalue()


def _nemo() -> bytes:
    lines = (
        {"audio_filepath": "a.wav", "duration": 1.5, "offset": 0.25, "speaker": "s1"},
        {"audio_filepath": "b/c.flac", "text": "words"},
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _lhotse() -> bytes:
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "r1", "sources": [source], "sampling_rate": 8000, "num_samples": 3200}
    return json.dumps({**recording, "duration": 0.4}).encode() + b"\n"
