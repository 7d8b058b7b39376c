# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/fetch_speech.py: copies, resuming, the manifest, packages and tools from Debian."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile as sf
from conftest import CLASSIC, ROOT, load_script
from packaged_speech import packages, tone, write

conversion = load_script("scripts/speech_conversion.py")
fetch = load_script("scripts/fetch_speech.py")


# Copies ---------------------------------------------------------------------------------------


def record(package, path, sha256, use):
    return {"package": package, "path": path, "sha256": sha256, "use": use, "duration": 1.0}


def test_merge_keeps_the_copy_with_most_to_lose():
    records = [
        record("a", "a/1", "one", "train"),
        record("a", "a/2", "two", "train"),
        record("a", "a/3", "three", "train"),
        record("b", "b/1", "one", "validate"),
        record("c", "", "two", "reserved"),
    ]
    kept, copies = fetch.merge_records(records)
    assert [r["path"] for r in kept] == ["a/3", "b/1"]
    assert [r["path"] for r in copies] == ["a/1", "a/2"]
    assert fetch.merge_records(reversed(records)) == (kept, copies)


# The store ------------------------------------------------------------------------------------


def add_package(store, package, use, seeds):
    folder = store.work / package
    records = []
    for seed in seeds:
        write(folder, f"{seed}.wav", tone(seed))
        sha256 = conversion.hash_samples(tone(seed))
        records.append(record(package, f"{seed}.wav", sha256, use))
    store.add(package, folder, records)


def test_store_lists_all_packages_and_drops_copies(tmp_path):
    store = fetch.Store(tmp_path / "speech")
    with store.locked():
        add_package(store, "one", "train", [1, 2])
        assert [r["path"] for r in store.update_manifest()] == [
            "audio/one/1.wav",
            "audio/one/2.wav",
        ]
        add_package(store, "two", "validate", [2, 3])
        manifest = store.update_manifest()
    expected = ["audio/one/1.wav", "audio/two/2.wav", "audio/two/3.wav"]
    assert [r["path"] for r in manifest] == expected
    assert fetch.read_jsonl(store.manifest) == manifest
    found = sorted(p.relative_to(store.dest).as_posix() for p in store.audio.rglob("*.wav"))
    assert found == expected
    assert store.has("one")
    assert not store.has("three")


def test_killed_run_leaves_nothing_half_done(tmp_path):
    store = fetch.Store(tmp_path / "speech")
    write(store.dest, "work/one/left.wav", tone(1))
    write(store.dest, "audio/one/half.wav", tone(2))  # killed between the folder and the records
    assert not store.has("one")
    with store.locked():
        assert list(store.work.iterdir()) == []
        add_package(store, "one", "train", [3])
        store.update_manifest()
    assert sorted(p.name for p in store.audio.rglob("*.wav")) == ["3.wav"]
    assert not store.work.exists()


def test_two_runs_do_not_share_a_folder(tmp_path):
    store = fetch.Store(tmp_path)
    with store.locked(), pytest.raises(fetch.FetchError, match="another run"):
        with fetch.Store(tmp_path).locked():
            pass


def test_jsonl_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "m.jsonl"
    fetch.write_jsonl(path, [{"path": "č"}])

    def fails():
        yield {"path": "b"}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fetch.write_jsonl(path, fails())
    assert fetch.read_jsonl(path) == [{"path": "č"}]


# Debian ---------------------------------------------------------------------------------------


def build_deb(folder, package, files, **fields):
    """Build a real .deb of `files` (path -> function that writes it)."""
    tree = folder / f"{package}-tree"
    for path, writer in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        writer(tree / path)
    control = {
        "Package": package,
        "Version": "2.0-1",
        "Architecture": "all",
        "Maintainer": "Test <test@example.org>",
        "Description": "test",
        **fields,
    }
    (tree / "DEBIAN").mkdir(parents=True)
    lines = [f"{key}: {value}\n" for key, value in control.items()]
    (tree / "DEBIAN" / "control").write_text("".join(lines))
    deb = folder / f"{package}_2.0-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
    return deb


class OfflineApt:
    """Stands for Apt: gives packages that the test built, and counts the downloads."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []

    def download(self, package, folder):
        self.asked.append(package)
        folder.mkdir(parents=True, exist_ok=True)
        for deb in self.folder.glob(f"{package}_*.deb"):
            copy = folder / deb.name
            copy.write_bytes(deb.read_bytes())
            return copy
        raise fetch.FetchError(f"{package}: Unable to locate package {package}")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    apt = OfflineApt(tmp_path / "debs")
    apt.folder.mkdir()
    monkeypatch.setattr(fetch, "Apt", lambda state: apt)
    return apt


def hts(seed):
    return lambda path: tone(seed).astype("<i2").tofile(path)


def test_fetch_resume_and_exit_codes(offline, tmp_path, capsys):
    dest = tmp_path / "speech"
    codec2 = {"usr/share/codec2/raw/hts1a.raw": hts(1), "usr/share/codec2/raw/hts1.raw": hts(2)}
    build_deb(offline.folder, "codec2-examples", codec2)
    command = ["--dest", str(dest), "--package", "codec2-examples", "festvox-ru"]

    assert fetch.main(command) == 0
    assert "could not get festvox-ru: Unable to locate" in capsys.readouterr().err
    manifest = fetch.read_jsonl(dest / "manifest.jsonl")
    assert {(r["use"], r["path"], r["version"]) for r in manifest} == {
        ("classic", "audio/codec2-examples/hts1a.wav", "2.0-1"),
        ("parity", "audio/codec2-examples/hts1.wav", "2.0-1"),
    }
    for entry in manifest:
        samples, _ = sf.read(dest / entry["path"], dtype="int16")
        assert conversion.hash_samples(samples) == entry["sha256"]

    assert fetch.main([*command, "--strict"]) == 1
    assert offline.asked == ["codec2-examples", "festvox-ru", "festvox-ru"]

    voice = "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav/1.wav"
    build_deb(offline.folder, "festvox-ru", {voice: lambda p: sf.write(p, tone(9), 16000)})
    assert fetch.main([*command, "--strict"]) == 0
    assert len(fetch.read_jsonl(dest / "manifest.jsonl")) == 3
    assert fetch.main([*command, "--strict"]) == 0
    assert len(offline.asked) == 4


def test_nothing_got_is_a_failure(offline, tmp_path, capsys):
    assert fetch.main(["--dest", str(tmp_path / "s"), "--package", "gcin-voice"]) == 1
    assert "could not get gcin-voice" in capsys.readouterr().err


def test_package_without_its_speech_is_not_got(offline, tmp_path, capsys):
    build_deb(offline.folder, "gcin-voice", {"usr/share/doc/x": lambda p: p.write_text("x")})
    assert fetch.main(["--dest", str(tmp_path / "s"), "--package", "gcin-voice"]) == 1
    assert "gcin-voice: version 2.0-1 holds no speech" in capsys.readouterr().err
    assert not (tmp_path / "s/packages/gcin-voice.jsonl").exists()


def test_archives_in_a_package_are_unpacked(offline, tmp_path):
    def archive(path):
        sound = tmp_path / "pcv1.ogg"
        sf.write(sound, tone(1), 11025, format="OGG", subtype="VORBIS")
        with zipfile.ZipFile(path, "w") as out:
            out.write(sound, "audio/memressp/power/pcv1.ogg")

    build_deb(offline.folder, "warzone2100-data", {"usr/share/games/warzone2100/base.wz": archive})
    dest = tmp_path / "s"
    assert fetch.main(["--dest", str(dest), "--package", "warzone2100-data"]) == 0
    (entry,) = fetch.read_jsonl(dest / "manifest.jsonl")
    assert (entry["speaker"], entry["rate"]) == ("warzone-computer", 11025)


def test_tools_run_with_their_own_library(offline, tmp_path, capsys):
    program = '#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n'

    def executable(path):
        path.write_text(program)
        path.chmod(0o755)

    files = {f"usr/bin/{tool}": executable for tool in fetch.TOOLS}
    build_deb(offline.folder, "codec2", files, Depends="libc6 (>= 2.4), libcodec2-1.0 (>= 1)")
    library = "usr/lib/here/libcodec2.so.1.0"
    build_deb(offline.folder, "libcodec2-1.0", {library: lambda p: p.write_text("library")})
    dest = tmp_path / "s"
    assert fetch.main(["--dest", str(dest), "--tools"]) == 0
    assert not (dest / "manifest.jsonl").exists()

    link = tmp_path / "c2enc"
    link.symlink_to(dest / "tools/bin/c2enc")
    environment = {**os.environ, "LD_LIBRARY_PATH": "/before"}
    done = subprocess.run(
        [str(link), "700C", "a b"], env=environment, capture_output=True, text=True, check=True
    )
    path, arguments = done.stdout.rstrip("\n").split(" ", 1)
    own, before = path.split(":")
    assert (Path(own).resolve() / "libcodec2.so.1.0").exists()
    assert (before, arguments) == ("/before", "700C a b")

    assert fetch.main(["--dest", str(dest), "--tools"]) == 0
    assert offline.asked == ["codec2", "libcodec2-1.0"]


def test_apt_falls_back_to_lists_of_its_own(tmp_path, monkeypatch):
    commands = []

    def run(command, cwd=None, **_):
        commands.append(command)
        stale = "download" in command and not any("lists=" in word for word in command)
        if "download" in command and not stale:
            (cwd / "voice_1_all.deb").touch()
        return subprocess.CompletedProcess(command, 100 if stale else 0, "", "W: x\nE: stale\n")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", run)
    apt = fetch.Apt(tmp_path / "apt")
    assert apt.download("voice", tmp_path / "a").name == "voice_1_all.deb"
    assert [command[-2:] for command in commands][::2] == [["download", "voice"]] * 2
    assert commands[1][-1] == "update"
    assert (tmp_path / "apt/lists/partial").is_dir()
    apt.download("voice", tmp_path / "b")
    assert len(commands) == 4


def test_apt_gives_the_reason(tmp_path, monkeypatch):
    answer = subprocess.CompletedProcess([], 100, "", "W: old\nE: Unable to locate package v\n")
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)
    with pytest.raises(fetch.FetchError, match="^v: Unable to locate package v$"):
        fetch.Apt(tmp_path / "apt").download("v", tmp_path / "a")


def test_not_debian_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert fetch.main(["--dest", str(tmp_path / "s"), "--use", "classic"]) == 1
    assert "needs Debian" in capsys.readouterr().err


def test_list_names_every_package(tmp_path, capsys):
    assert fetch.main(["--dest", str(tmp_path), "--list"]) == 0
    out = capsys.readouterr().out
    for package in [*(s.package for s in packages.SOURCES), *packages.RESERVED_PACKAGES]:
        assert package in out


@pytest.mark.network
def test_really_fetch_codec2_examples(tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "fetch_speech.py")]
    subprocess.run([*script, "--dest", str(tmp_path), "--use", "classic", "--strict"], check=True)
    manifest = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    classic = {Path(r["path"]).stem for r in manifest if r["use"] == "classic"}
    assert classic == set(CLASSIC)
    assert {r["use"] for r in manifest} == {"classic", "parity"}
    assert sum(r["duration"] for r in manifest) == pytest.approx(348, abs=5)
    for entry in manifest:
        assert sf.info(tmp_path / entry["path"]).duration == pytest.approx(
            entry["duration"], abs=1e-4
        )
