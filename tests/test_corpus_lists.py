# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lists of recordings: what they may look like, and that nothing else ever comes out of them."""

import gzip
import json
import os
import sys

import numpy as np
import pytest
import soundfile
from corpora import batch, manifest
from hypothesis import given
from hypothesis import strategies as st

import codec2_eq as ce
from codec2_eq import cli
from codec2_eq.corpus import lists
from codec2_eq.corpus.lists import read_list, read_manifest, read_scp
from codec2_eq.errors import Codec2EqError


@pytest.fixture
def audio(tmp_path, speech):
    for i, name in enumerate(("a.wav", "b.wav", "deep/c d.wav")):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech[500 * i : 500 * i + 9000 + 640 * i], 8000)
    return tmp_path / "audio"


PATHS = ["rec/a.wav", "/x/b c.wav", "ü/ж文.wav", "rec/line.wav"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_lists_of_all_kinds(tmp_path, encoding, end):
    path = tmp_path / "list.txt"
    for last in (end, ""):
        path.write_bytes((end.join(PATHS) + last).encode(encoding))
        assert read_list(str(path)) == PATHS


def test_utf16_by_its_mark_whatever_its_order(tmp_path):
    path = tmp_path / "list.txt"
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        path.write_bytes(mark + "rec/a.wav\r\nrec/b.wav\r\n".encode(encoding))
        assert read_list(str(path)) == ["rec/a.wav", "rec/b.wav"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("rec/a.wav\nrec/b.wav\n".encode("utf-16-le"), "zero bytes that separate no paths"),
        ("rec/a.wav\nrec/b.wav\n".encode("utf-16-be"), "zero bytes that separate no paths"),
        ("ж/文.wav\n".encode("utf-16-le"), "zero bytes|not UTF-8|control"),
        (b"rec/a.wav\nrec/\xff.wav\n", r"line 2: is not UTF-8; save it as UTF-8"),
        (b"rec/a\x01.wav\n", "line 1: holds control characters"),
        (b"\xff\xfer", "not UTF-8"),
        (b"\xef\xbb", "line 1: is not UTF-8"),  # half a byte order mark
        (b"RIFF\x24\0\0\0WAVEfmt ", "zero bytes|control"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, data, message):
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(Codec2EqError, match=message):
        read_list(str(path))


@given(st.binary(max_size=60))
def test_a_path_that_is_no_line_never_comes_out(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        found = read_list(str(path))
    except Codec2EqError:
        return
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        lines = text.split("\0") if "\0" in text else text.replace("\r\n", "\n").split("\n")
        assert not any("\n" in name for name in found)  # no such file exists
        if set(found) <= {line.removesuffix("\r") for line in lines}:
            return
    raise AssertionError(f"{data!r} gave {found}")


@pytest.mark.parametrize(("data", "entry"), [("a\nb\0c\nd", 1), ("aa\0b\r\nc\0", 2), ("a\nb\0", 1)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_with_both_separators_are_refused(tmp_path, capsys, data, entry, encoding):
    path = tmp_path / "list.txt"
    path.write_bytes(data.encode(encoding))
    assert cli.main(["batch", f"@{path}", "-o", str(tmp_path / "out"), "-m", "cmn"]) == 1
    assert capsys.readouterr().err == (
        f"codec2-eq: error: {path}: has both zero bytes and line ends between paths (entry {entry} "
        "has a line end in it and is no existing file); separate all paths by line ends, or all by "
        "zero bytes\n"
    )


def test_names_with_line_ends_are_read_between_zero_bytes(audio, tmp_path):
    names = [str(audio / "a.wav"), str(audio / "b\nc.wav")]
    os.rename(audio / "b.wav", names[1])
    (tmp_path / "list.txt").write_text("\0".join(names))
    assert read_list(str(tmp_path / "list.txt")) == names
    assert batch([f"@{tmp_path}/list.txt"], tmp_path / "out").utterances == 2


def test_devices_are_no_lists():
    with pytest.raises(Codec2EqError, match="is not a list"):
        read_list("/dev/zero")


def test_kaldi_scp(audio, tmp_path):
    scp = tmp_path / "wav.scp"
    scp.write_text(f"utt1\t{audio}/a.wav\nutt-2  {audio}/deep/c d.wav \n")
    assert batch((), tmp_path / "out", scp=scp).utterances == 2
    assert [line["id"] for line in manifest(tmp_path / "out")] == ["utt1", "utt-2"]
    assert [u.id for u in ce.open_corpus(tmp_path / "out")] == ["utt1", "utt-2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("utt2 sox a.wav -t wav - |", "line 2: is a pipe"),
        ("utt2", "line 2: has no path"),
        ("utt1 b.wav", "line 2: id utt1 occurs a second time"),
    ],
)
def test_scp_refuses_by_line(audio, tmp_path, capsys, line, message):
    scp = tmp_path / "wav.scp"
    scp.write_text(f"utt1 {audio}/a.wav\n{line}\n")
    with pytest.raises(Codec2EqError, match=message):
        read_scp(str(scp))
    assert cli.main(["batch", "--scp", str(scp), "-o", str(tmp_path / "out"), "-m", "cmn"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_lines_of_stdin_are_called_so(stdin):
    stdin(b"utt2\n")
    with pytest.raises(Codec2EqError, match="^stdin: line 1: has no path"):
        read_scp("-")


def test_nemo_manifest_with_parts_of_recordings(audio, tmp_path):
    lines = [
        {"audio_filepath": "audio/a.wav", "duration": 1.125, "text": "x", "speaker": 7},
        {"audio_filepath": f"{audio}/b.wav", "offset": 0.25, "duration": 0.5},
        {"audio_filepath": f"{audio}/b.wav", "offset": 0.5, "id": "rest"},
    ]
    path = tmp_path / "nemo.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    batch((), out, manifest=path)
    first, part, rest = manifest(out)
    assert (first["duration"], first["speaker"]) == (1.125, "7")
    assert (part["audio_filepath"], part["audio_offset"]) == (f"{audio}/b.wav", 0.25)
    assert (part["duration"], rest["id"], rest["audio_offset"]) == (0.5, "rest", 0.5)
    samples = soundfile.read(audio / "b.wav", dtype="int16")[0]
    corpus = ce.open_corpus(out)
    for i, span in ((1, slice(2000, 6000)), (2, slice(4000, None))):
        expected = ce.load_equaliser("cmn")(ce.extract(samples[span]).vectors)
        np.testing.assert_array_equal(corpus.vectors(i), expected)
    assert batch((), out, manifest=path).run_recordings == 0


@pytest.mark.parametrize(("duration", "warned"), [(0.628, False), (2.0, True)])
def test_a_part_shorter_than_its_list_states_is_warned_of(audio, tmp_path, duration, warned):
    line = {
        "audio_filepath": "audio/a.wav",
        "offset": 0.5,
        "duration": duration,
    }  # 0.625 s are left
    (tmp_path / "nemo.json").write_text(json.dumps(line))
    out = tmp_path / "out"
    assert batch((), out, manifest=tmp_path / "nemo.json", passes=2).warnings == warned
    warning = manifest(out)[0].get("warning")
    assert warning == ("is 1.375 s shorter than the part that its list states" if warned else None)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lhotse_recordings(audio, tmp_path, suffix):
    line = {
        "id": "rec-1",
        "sources": [{"type": "file", "channels": [0], "source": f"{audio}/a.wav"}],
        "sampling_rate": 8000,
        "num_samples": 9000,
        "duration": 1.125,
    }
    data = json.dumps(line).encode() + b"\n"
    path = tmp_path / f"recordings.jsonl{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    batch((), tmp_path / "out", manifest=path)
    (found,) = manifest(tmp_path / "out")
    assert (found["id"], found["audio_filepath"]) == ("rec-1", f"{audio}/a.wav")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 1: is not a JSON object"),
        ("{", "line 1: is not JSON"),
        ("{}", "line 1: names no recording"),
        ('{"audio_filepath": 3}', "line 1: names no recording"),
        ('{"audio_filepath": "a\\u0000"}', "line 1: names no recording"),
        ('{"audio_filepath": "a", "offset": -1}', "line 1: offset -1"),
        ('{"audio_filepath": "a", "offset": NaN}', "line 1: offset nan"),
        ('{"audio_filepath": "a", "offset": "x"}', "line 1: offset 'x'"),
        ('{"audio_filepath": "a", "id": []}', r"line 1: id \[\]"),
        ('{"sources": [{"type": "command", "source": "sox"}]}', "source of type 'command'"),
        ('{"sources": [1, 2]}', "has 2 sources"),
        ('{"audio_filepath": "\\ud800"}', "line 1: names no recording"),
        ('{"audio_filepath": "a", "id": "\\ud800"}', "line 1: id '.ud800'; expected text"),
    ],
)
def test_manifests_refuse_by_line(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    path.write_text(line)
    with pytest.raises(Codec2EqError, match=message):
        read_manifest(str(path))


def test_a_list_of_recordings_names_no_folders(audio, tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": str(audio)}))
    with pytest.raises(Codec2EqError, match="audio: is a directory, not a file; name the files"):
        batch((), tmp_path / "out", manifest=tmp_path / "m.jsonl")


@pytest.mark.parametrize("layout", ["kaldi", "webdataset"])
@pytest.mark.parametrize("id_", ["/etc/x", "../../x", "..", "x/", "a\0b\nc"])
def test_ids_that_look_like_paths(audio, tmp_path, layout, id_):
    line = {"audio_filepath": f"{audio}/a.wav", "id": id_}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    for _ in range(2):
        batch((), tmp_path / "out", manifest=tmp_path / "m.jsonl", layout=layout)
    corpus = ce.open_corpus(tmp_path / "out")
    (utterance,) = corpus
    assert utterance.id == id_
    np.testing.assert_array_equal(
        corpus.vectors(utterance),
        ce.load_equaliser("cmn")(ce.extract_file(audio / "a.wav").vectors),
    )
    key = manifest(tmp_path / "out")[0]["key"]
    assert key.startswith("_") or key == "a_b_c"


@pytest.mark.parametrize("layout", ["tree", "shards", "kaldi", "webdataset"])
def test_a_list_that_has_changed(audio, tmp_path, layout):
    out, path = tmp_path / "out", tmp_path / "m.jsonl"

    def run(*facts):
        lines = [
            {"audio_filepath": f"{audio}/{name}.wav", "id": id_, "speaker": speaker}
            for name, id_, speaker in facts
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        batch((), out, manifest=path, layout=layout)
        eq = ce.load_equaliser("cmn")
        for utterance in (corpus := ce.open_corpus(out)):
            expected = eq(ce.extract_file(utterance.audio_filepath).vectors)
            np.testing.assert_array_equal(corpus.vectors(utterance), expected)
        found = [(line["id"], line["speaker"]) for line in manifest(out)]
        assert found == [facts_of[1:] for facts_of in facts]

    run(("a", "u1", "x"), ("b", "u2", "y"))
    run(("a", "u1", "x"), ("b", "u9", "z"))
    run(("a", "u9", "x"), ("b", "u1", "z"))  # swapped
    batch(audio, out, layout=layout)  # what no list describes stays as it was
    assert {line.get("id") for line in manifest(out)} == {"u9", "u1", None}


@pytest.mark.parametrize("layout", ["tree", "shards", "kaldi", "webdataset"])
def test_recordings_whose_names_are_no_utf8(audio, tmp_path, layout):
    os.rename(audio / "a.wav", os.fsencode(audio) + b"/h\xf6r.wav")
    summary = batch(audio, tmp_path / "out", layout=layout)
    assert summary.failures == 0
    eq = ce.load_equaliser("cmn")
    for utterance in (corpus := ce.open_corpus(tmp_path / "out")):
        np.testing.assert_array_equal(
            corpus.vectors(utterance), eq(ce.extract_file(utterance.audio_filepath).vectors)
        )
    if layout == "kaldi":
        assert b"h\xf6r " in (tmp_path / "out/feats.scp").read_bytes()


def test_a_manifest_that_is_cut(tmp_path):
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"audio_filepath": "a"}\n' * 99)[:-9])
    with pytest.raises(Codec2EqError, match="damaged"):
        read_manifest(str(path))


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"    \n" * (13 << 20), 9))
    with pytest.raises(Codec2EqError, match="unpacks to over 100 times its own size"):
        read_manifest(str(path))


@pytest.mark.parametrize("begins", [b"a.wav\n", b"a.wav\0b.wav\0", b"x" * 5_000_000, b"\n" * 5000])
@pytest.mark.parametrize("read", [read_list, read_scp, read_manifest])
def test_files_of_gigabytes_that_are_no_lists(tmp_path, begins, read):
    path = tmp_path / "list"
    path.write_bytes(begins)
    os.truncate(path, 3 << 30)  # a hole, so that it costs no room
    with pytest.raises(Codec2EqError, match="list: is not a list: it holds no lines of text; save"):
        read(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_of_many_chunks(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(lists, "_CHUNK_BYTES", 37)
    names = [f"ж{number}.wav" for number in range(50)]
    (tmp_path / "list").write_bytes("\n".join(names).encode(encoding))
    assert read_list(str(tmp_path / "list")) == names
    if encoding == "utf-8":
        (tmp_path / "list").write_bytes("\n".join(names).encode() + b"\n\xff")
        with pytest.raises(Codec2EqError, match="list: line 51: is not UTF-8"):
            read_list(str(tmp_path / "list"))


def test_a_list_from_closed_stdin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["batch", "@-", "-o", str(tmp_path / "out")]) == 1
    assert "stdin: is closed" in capsys.readouterr().err
