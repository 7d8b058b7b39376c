# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which recordings a corpus is made of, their order, and how their files are named."""

import os
import shutil

import pytest
from corpora import batch, manifest, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from codec2_eq import cli
from codec2_eq.corpus import listing
from codec2_eq.corpus.plan import name_outputs
from codec2_eq.errors import Codec2EqError


def test_folders_files_and_lists_give_each_recording_once(audio, tmp_path):
    names = tmp_path / "list.txt"
    names.write_bytes(os.fsencode(f"{audio}/a b.wav\n\n{audio}/deep/er/x.wav\n"))
    zeros = tmp_path / "zeros.txt"
    zeros.write_bytes(os.fsencode(f"{audio}/line\nbreak.wav\0{audio}/a b.wav\0"))
    summary = batch([f"@{names}", audio / "deep", f"@{zeros}"], tmp_path / "out")
    assert summary.utterances == 3
    assert {line["path"] for line in manifest(tmp_path / "out")} == {
        "a b.f32",
        "deep/er/x.f32",
        "line\nbreak.f32",
    }


def test_hidden_and_other_files_are_passed_over(audio, tmp_path):
    (audio / "notes.txt").write_text("x")
    shutil.copy(audio / "a b.wav", audio / ".hidden.wav")
    (audio / ".folder").mkdir()
    shutil.copy(audio / "a b.wav", audio / ".folder" / "x.wav")
    assert batch(audio, tmp_path / "out").utterances == 25


def test_a_named_file_may_have_any_suffix(audio, tmp_path):
    shutil.copy(audio / "a b.wav", tmp_path / "recording")
    batch(tmp_path / "recording", tmp_path / "out")
    assert manifest(tmp_path / "out")[0]["path"] == "recording.f32"


def test_links_are_followed_and_loops_are_not(audio, tmp_path, speech):
    (audio / "deep" / "loop").symlink_to(audio)
    (audio / "deep" / "er" / "self").symlink_to(audio / "deep" / "er")
    (audio / "self.wav").symlink_to(audio / "self.wav")
    write_clip(tmp_path / "elsewhere" / "z.wav", speech, 0, 4000)
    (audio / "linked").symlink_to(tmp_path / "elsewhere")
    summary = batch(audio, tmp_path / "out")
    lines = manifest(tmp_path / "out")
    assert summary.utterances == 26
    assert "linked/z.f32" in {line["path"] for line in lines}
    assert [line["audio_filepath"] for line in lines if "error" in line] == [f"{audio}/self.wav"]


def test_one_stem_with_two_suffixes_keeps_both(tmp_path, speech):
    for name in ("x.wav", "x.flac", "x.wav.wav", "y.wav"):
        write_clip(tmp_path / "audio" / name, speech, len(name), 4000)
    batch(tmp_path / "audio", tmp_path / "out")
    paths = {os.path.basename(v["audio_filepath"]): v["path"] for v in manifest(tmp_path / "out")}
    assert paths == {
        "x.wav": "x.wav.f32",
        "x.flac": "x.flac.f32",
        "x.wav.wav": "x.wav.wav.f32",
        "y.wav": "y.f32",
    }
    write_clip(tmp_path / "audio" / "y.flac", speech, 0, 4000)
    batch(tmp_path / "audio", tmp_path / "out")
    paths = {os.path.basename(v["audio_filepath"]): v["path"] for v in manifest(tmp_path / "out")}
    assert (paths["y.wav"], paths["y.flac"]) == ("y.f32", "y.flac.f32")


@given(st.lists(st.text("ab.", min_size=1, max_size=5), unique=True), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_no_two_recordings_share_an_output(names, n_before):
    before = name_outputs(names[:n_before], ".f32", set())
    assert len(set(before.values())) == len(before)
    try:
        after = name_outputs(names[n_before:], ".f32", set(before.values()))
    except Codec2EqError:
        return
    assert len({*before.values(), *after.values()}) == len(names)


def test_nothing_to_do_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Codec2EqError, match="no recordings there; name audio files, or folders"):
        batch(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "list.txt").touch()
    with pytest.raises(Codec2EqError, match=r"@.*list\.txt: no recordings there"):
        batch(f"@{tmp_path}/list.txt", tmp_path / "out")
    with pytest.raises(Codec2EqError, match=r"none\.txt: no such file"):
        batch(f"@{tmp_path}/none.txt", tmp_path / "out")


def test_listing_is_in_the_order_of_names(audio):
    found = listing.list_recordings([str(audio)])
    assert found.base == str(audio)
    assert list(found.stamps) == sorted(found.stamps, key=lambda name: name.split("/"))
    assert len(found.stamps) == 25


def test_what_is_passed_over_is_counted(audio, tmp_path, capsys):
    (audio / "x.m4a").touch()
    (audio / "y.webm").touch()
    assert cli.main(["batch", str(audio), "-o", str(tmp_path / "out"), "-m", "cmn"]) == 0
    assert "2 other files skipped: .m4a, .webm\n" in capsys.readouterr().err


def test_an_empty_name_is_no_input(tmp_path):
    with pytest.raises(Codec2EqError, match="an input has an empty name; is a variable not set"):
        batch("", tmp_path / "out")
