# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a shell user leans on: completions, manual pages, help, names nearly right, -q and -v."""

import json
import re
import shutil
import subprocess

import pytest

from codec2_eq import cli
from codec2_eq.commands.manual import man_pages


def run(capsys, *words):
    code: object
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    made = man_pages(cli.whole_parser(), version="1.2", environment=cli.ENVIRONMENT)
    for name, text in made.items():
        (folder / name).write_text(text)
    return folder


def test_every_command_has_a_manual_page_with_its_options(pages):
    names = {f"codec2-eq-{command}.1" for command in cli.COMMANDS} | {"codec2-eq.1"}
    assert {path.name for path in pages.iterdir()} == names
    for command, option in (("run", "knots"), ("vq", "survivors"), ("train", "tensorboard")):
        text = (pages / f"codec2-eq-{command}.1").read_text().replace("\\", "")
        assert f"--{option}" in text
    text = (pages / "codec2-eq.1").read_text()
    assert all(variable in text for variable in cli.ENVIRONMENT)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_manual_pages_are_what_groff_takes(pages):
    for page in pages.iterdir():
        command = ["groff", "-man", "-ww", "-Tutf8", "-P-c", str(page)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "SEE ALSO" in re.sub(".\b", "", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_all_commands_and_options(capsys, tmp_path, shell):
    code, script, _ = run(capsys, "completions", shell)
    assert code == 0
    assert all(command in script for command in cli.COMMANDS)
    assert "frame-ms" in script
    path = tmp_path / "script"
    path.write_text(script)
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(path)]).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    "line, wanted",
    [
        (["equ"], {"equalise", "equalize"}),
        (["run", "--kn"], {"--knots"}),
        (["vq", "tr"], {"train"}),
    ],
)
def test_bash_completes(capsys, tmp_path, line, wanted):
    script = tmp_path / "script"
    script.write_text(run(capsys, "completions", "bash")[1])
    program = f"""
        source {script}
        COMP_WORDS=(codec2-eq {" ".join(line)}); COMP_CWORD={len(line)}
        function_name=$(complete -p codec2-eq | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function_name codec2-eq {line[-1]} {line[-2] if len(line) > 1 else "codec2-eq"}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_is_its_help(capsys, command):
    assert run(capsys, "help", command) == run(capsys, command, "--help")


def test_help_alone_lists_the_commands(capsys):
    code, out, _ = run(capsys, "help")
    assert code == 0
    assert all(command in out for command in cli.COMMANDS)


@pytest.mark.parametrize(
    "words, meant",
    [
        (["exract", "a.wav"], "extract"),
        (["run", "a.wav", "--modle", "cmn"], "--model"),
        (["vq", "quantize", "a.f32"], "quantise"),
        (["run", "a.wav", "--knots", "pik"], "pick"),
    ],
)
def test_names_nearly_right_are_answered_with_the_right_one(capsys, words, meant):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.endswith(f"did you mean {meant}?\n")


def test_names_far_off_are_not_guessed(capsys):
    code, _, err = run(capsys, "xylophone")
    assert code == 2
    assert "did you mean" not in err


def test_equalize_is_equalise(capsys, samples_dir, tmp_path):
    wav = samples_dir / "espeak_male_1.wav"
    assert run(capsys, "extract", wav, "-o", tmp_path / "a.f32")[0] == 0
    for name in ("equalise", "equalize"):
        assert run(capsys, name, tmp_path / "a.f32", "-o", tmp_path / f"{name}.f32")[0] == 0
    one, other = (tmp_path / f"equali{letter}e.f32" for letter in "sz")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("command", ["extract", "run", "encode"])
def test_quiet_says_nothing_and_verbose_more(capsys, samples_dir, tmp_path, command):
    said = {}
    for option in ("-q", "--debug", "-v"):
        out = tmp_path / f"a{option}.c2" if command == "encode" else tmp_path / f"a{option}.f32"
        wav = samples_dir / "espeak_male_1.wav"
        code, stdout, said[option] = run(capsys, command, wav, "-o", out, option)
        assert (code, stdout) == (0, "")
    assert said["-q"] == ""
    assert said["--debug"]
    assert said["-v"].count("\n") == said["--debug"].count("\n") + 1


def test_quiet_still_tells_errors(capsys, tmp_path):
    code, _, err = run(capsys, "run", tmp_path / "none.wav", "-q")
    assert code == 1
    assert err.startswith("codec2-eq: error: ")


def test_quiet_in_a_corpus(capsys, samples_dir, tmp_path):
    code, out, err = run(capsys, "batch", samples_dir, "-o", tmp_path / "out", "-q")
    assert (code, out, err) == (0, "", "")


def test_figures_are_numbers_in_json(capsys, samples_dir, tmp_path):
    wav = samples_dir / "espeak_male_1.wav"
    for name in ("a.f32", "a.npz", "a.c2"):
        command = "encode" if name.endswith("c2") else "run"
        assert run(capsys, command, wav, "-o", tmp_path / name)[0] == 0
        facts = json.loads(run(capsys, "info", tmp_path / name, "--json")[1])
        texts = {key for key, value in facts.items() if isinstance(value, str)}
        assert texts <= {"kind", "model", "mode", "version"}
