# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a shell user leans on: completions, manual pages, help, names nearly right, -q and -v."""

import csv
import json
import re
import subprocess

import pytest
from conftest import require_tool

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


@pytest.mark.parametrize(
    "checker",
    [
        "groff -man -ww -Tutf8 -P-c",
        "man --warnings -E UTF-8 -l -Tutf8",
        "mandoc -T lint -W warning",
    ],
)
def test_manual_pages_are_without_fault(pages, checker):
    require_tool(checker.split()[0])
    for page in sorted(pages.iterdir()):
        done = subprocess.run([*checker.split(), page], capture_output=True, text=True)
        if checker.startswith("mandoc"):  # pages are of a version, not of a day
            assert [x for x in done.stdout.splitlines() if "missing date" not in x] == []
        else:
            assert (done.returncode, done.stderr) == (0, "")
            assert "SEE ALSO" in re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request, capsys, tmp_path):
    """Name of a shell, and the file with the completions for it."""
    require_tool(request.param)
    code, text, _ = run(capsys, "completions", request.param)
    assert code == 0
    path = tmp_path / "_codec2-eq"
    path.write_text(text)
    return request.param, path


def test_completions_are_programs_that_their_shell_takes(shell):
    name, path = shell
    done = subprocess.run([name, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in path.read_text() for command in cli.COMMANDS)


# Programs that print what their shell completes line $2 to, with the completions in file $1. Only
# bash can be asked plainly; zsh completes at a terminal alone, so that one is made for it.
ASK = {
    "bash": r"""
        source "$1"
        read -ra COMP_WORDS <<<"$2"
        [[ "$2" = *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        name=$(complete -p codec2-eq | sed 's/.*-F \([^ ]*\).*/\1/')
        $name codec2-eq "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}"
    """,
    "fish": 'source $argv[1]; complete -C "$argv[2]" | string replace -r "\t.*" ""',
    "zsh": r"""
        zmodload zsh/zpty
        zpty shell "TERM=dumb zsh -f -i"
        zpty -w shell "fpath=(${1:h} \$fpath); autoload -Uz compinit; compinit -u -D"
        zpty -w shell "all() { _main_complete; compstate[insert]=all }"
        zpty -w shell "zle -C all complete-word all"
        zpty -w shell "answer() { LBUFFER='$2'; zle all; print -r -- \"BEGIN\$BUFFER;END\" }"
        zpty -w shell "zle -N answer; bindkey '^X' answer; echo RE''ADY"
        zpty -r -m shell said '*READY*'
        zpty -w -n shell $'\x18'
        zpty -r -m shell said '*BEGIN*END*'
        print -r -- "${${said##*BEGIN}%%;END*}"
    """,
}


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("codec2-eq equ", {"equalise", "equalize"}),
        ("codec2-eq run --kn", {"--knots"}),
        ("codec2-eq run --knots ", {"pick", "fit"}),
        ("codec2-eq vq tr", {"train"}),
    ],
)
def test_completions_are_what_the_shell_completes_to(shell, line, wanted):
    name, path = shell
    if name == "fish":
        command = ["fish", "--no-config", "-c", ASK[name], path, line]
    else:
        command = [name, "-c", ASK[name], name, path, line]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) - set(line.split()) == wanted, done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_is_its_help(capsys, command):
    assert run(capsys, "help", command) == run(capsys, command, "--help")


def test_where_completions_go_can_be_copied(capsys):
    _, out, _ = run(capsys, "completions", "--help")
    folder = "~/.local/share/bash-completion/completions"
    assert f"codec2-eq completions bash > {folder}/codec2-eq\n" in out


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


def test_options_of_all_commands_may_come_before_them(capsys, samples_dir, tmp_path):
    wav = samples_dir / "espeak_male_1.wav"
    assert run(capsys, "-q", "run", wav, "-o", tmp_path / "a.f32") == (0, "", "")
    assert "s of CPU" in run(capsys, "-v", "info", wav)[2]
    assert "Traceback" in run(capsys, "--debug", "info", tmp_path / "no")[2]
    code, _, err = run(capsys, "--json", "info", wav)
    assert code == 2
    assert err.endswith("unrecognized arguments: --json; options of a command come after it\n")


def test_quiet_still_tells_errors(capsys, tmp_path):
    code, _, err = run(capsys, "run", tmp_path / "none.wav", "-q")
    assert code == 1
    assert err.startswith("codec2-eq: error: ")


def test_quiet_in_a_corpus(capsys, samples_dir, tmp_path):
    code, out, err = run(capsys, "batch", samples_dir, "-o", tmp_path / "out", "-q")
    assert (code, out, err) == (0, "", "")
    (tmp_path / "bad.wav").write_text("bad")
    code, out, err = run(capsys, "batch", tmp_path / "bad.wav", "-o", tmp_path / "other", "-q")
    assert (code, out) == (1, "")
    assert err.splitlines()[1:] == [
        f"codec2-eq: warning: {tmp_path / 'other'}: 1 failed, see the manifest"
    ]


def test_figures_are_numbers_in_json(capsys, samples_dir, tmp_path):
    wav = samples_dir / "espeak_male_1.wav"
    for name in ("a.f32", "a.npz", "a.c2"):
        command = "encode" if name.endswith("c2") else "run"
        assert run(capsys, command, wav, "-o", tmp_path / name)[0] == 0
        facts = json.loads(run(capsys, "info", tmp_path / name, "--json")[1])
        texts = {key for key, value in facts.items() if isinstance(value, str)}
        assert texts <= {"kind", "model", "mode", "version"}


def figures_of(capsys, *words):
    """Figures of a command, of a file and of a pipe: on stdout, or beside data on stderr."""
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def test_commands_that_print_figures_give_them_as_numbers(capsys, samples_dir, tmp_path):
    wav, flite = samples_dir / "espeak_male_1.wav", samples_dir / "flite_male_1.wav"
    for command, path, frame_ms in (("extract", wav, 40), ("run", flite, 20)):
        out = tmp_path / f"{command}.f32"
        (told,) = figures_of(capsys, command, path, "-o", out, "--frame-ms", frame_ms)
        n_vectors = out.stat().st_size // 80
        seconds = n_vectors * frame_ms / 1000
        expected = {"output": str(out), "vectors": n_vectors, "frame_ms": frame_ms}
        assert told == expected | {"seconds": seconds}
    (told,) = figures_of(capsys, "equalise", tmp_path / "extract.f32", "-o", tmp_path / "e.f32")
    assert told["vectors"] == 87
    (told,) = figures_of(capsys, "encode", wav, "-o", tmp_path / "a.c2")
    assert told["frames"] == 87 and 0 < told["distortion_db2"] <= told["variance_db2"]
    assert told["dropped_samples"] == 28069 - 87 * 320
    (told,) = figures_of(capsys, "decode", tmp_path / "a.c2", "-o", tmp_path / "a.wav")
    assert told == {"input": str(tmp_path / "a.c2"), "frames": 87, "seconds": 3.48, **DROPPED}
    (told,) = figures_of(capsys, "filter", wav, "-o", tmp_path / "f.wav")
    assert told["seconds"] == 28069 / 8000 and told["latency_s"] <= 0.02
    assert len(told["curve_db"]) == 20 and abs(sum(told["curve_db"])) < 0.2
    code, out, _ = run(capsys, "batch", wav, "-o", tmp_path / "out", "--json")
    told = json.loads(out)
    assert (told["utterances"], told["frames"], told["failures"]) == (1, 87, 0)
    (told,) = figures_of(capsys, "export", "channel_eq", "--c", tmp_path)
    assert told["outputs"] == [str(tmp_path / f"channel_eq.{suffix}") for suffix in "ch"]
    assert told["weight_bytes"] > told["state_bytes"] > 0


def test_the_figures_of_a_report(capsys, samples_dir, tmp_path):
    pytest.importorskip("jinja2")
    words = ("report", samples_dir / "espeak_male_1.wav", "-o", tmp_path / "a.html", "--seconds", 1)
    (told,) = figures_of(capsys, *words, "-m", "none")
    assert told == {
        "output": str(tmp_path / "a.html"),
        "recordings": 1,
        "models": ["none"],
        "bytes": (tmp_path / "a.html").stat().st_size,
        "silent": 0,
        "failures": 0,
    }


DROPPED = {"dropped_bytes": 0}


def test_figures_stay_out_of_data_on_stdout(capfdbinary, samples_dir):
    wav = samples_dir / "espeak_male_1.wav"
    assert cli.main(["encode", str(wav), "--raw", "--json"]) == 0
    data, figures = capfdbinary.readouterr()
    assert json.loads(figures)["frames"] * 4 == len(data)


def test_training_and_use_of_codebooks_as_numbers_and_tables(capsys, samples_dir, tmp_path):
    vectors = tmp_path / "a.f32"
    assert (
        run(capsys, "run", samples_dir / "espeak_male_1.wav", "-o", vectors, "-m", "mean")[0] == 0
    )
    options = ("--sizes", "8,4", "--iterations", 3, "--csv", tmp_path / "train.csv")
    lines = figures_of(capsys, "vq", "train", vectors, "-o", tmp_path / "book", *options)
    assert [line["stage"] for line in lines] == sorted(line["stage"] for line in lines)
    assert lines[-1]["distortion_db2"] < lines[0]["distortion_db2"]
    head, *rows = csv.reader((tmp_path / "train.csv").read_text().splitlines())
    assert [dict(zip(head, map(float, row), strict=True)) for row in rows] == lines

    books = f"{tmp_path / 'book1.f32'},{tmp_path / 'book2.f32'}"
    using = ("--codebook", books, "--survivors", 2, "--usage", "--csv", tmp_path / "use.csv")
    out = tmp_path / "quantised.f32"
    (told,) = figures_of(capsys, "vq", "quantise", vectors, "-o", out, *using)
    assert told["vectors"] == 87
    assert told["std_db"] == pytest.approx(told["distortion_db2"] ** 0.5)
    for size, stage in zip((8, 4), told["stages"], strict=True):
        assert stage["entries"] == len(stage["usage"]) == size
        assert sum(stage["usage"]) == 87
        assert (stage["least_used"], stage["most_used"]) == (
            min(stage["usage"]),
            max(stage["usage"]),
        )
    entries = csv.DictReader((tmp_path / "use.csv").read_text().splitlines())
    times = [int(entry["times"]) for entry in entries]
    assert times == told["stages"][0]["usage"] + told["stages"][1]["usage"]
    code, _, err = run(capsys, "vq", "quantise", vectors, "-o", out, "-f", "--csv", out)
    assert code == 2 and "--csv" in err
