# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may import whom: the rules that keep the stages apart and the start quick."""

import ast
import subprocess
import sys
from pathlib import Path

import codec2_eq

PACKAGE = Path(codec2_eq.__file__).parent

# The rooms in the order of the data's way; each may import itself and those before it.
ROOMS = (
    *(
        "errors",
        "messages",
        "system",
        "files",
        "pictures",
        "codec2",
        "records",
        "libcodec2",
        "audio",
        "analysis",
    ),
    *(
        "vectors",
        "vq",
        "extraction",
        "equalisers",
        "audiofilter",
        "stream700c",
        "corpus",
        "bench",
        "report",
    ),
    *("training", "inspection", "commands", "cli", "__main__", "__init__"),
)
HEAVY = (
    "tensorflow",
    "keras",
    "dask",
    "distributed",
    "faiss",
    "matplotlib",
    "scipy",
    "sklearn",
    "jinja2",
)


def modules() -> dict[str, ast.Module]:
    found = {str(p.relative_to(PACKAGE)): ast.parse(p.read_text()) for p in PACKAGE.rglob("*.py")}
    assert len(found) > 15
    return found


def imported(tree: ast.AST) -> set[str]:
    """All names that import statements name, in full."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "codec2_eq." * bool(node.level) + (node.module or "")
            names |= {prefix} | {f"{prefix}.{alias.name}" for alias in node.names}
    return names


def own_imports(tree: ast.AST) -> set[str]:
    return {name.split(".")[1] for name in imported(tree) if name.startswith("codec2_eq.")}


def room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def test_rooms_import_only_what_stands_before_them():
    for name, tree in modules().items():
        for other in own_imports(tree) & set(ROOMS):
            allowed = ROOMS.index(other) <= ROOMS.index(room(name))
            assert allowed, f"{name} imports {other}"


def test_only_training_imports_keras():
    for name, tree in modules().items():
        heads = {n.split(".")[0] for n in imported(tree)}
        assert name.startswith(("training/", "equalisers/keras_")) or not heads & {
            "keras",
            "tensorflow",
        }, name


def test_heavy_libraries_are_imported_where_they_are_used():
    for name, tree in modules().items():
        # Keras layers are classes, which training defines at its top
        at_top = {n.split(".")[0] for node in tree.body for n in imported_by_statement(node)}
        assert name.startswith(("training/", "equalisers/keras_")) or not at_top & set(HEAVY), name


def imported_by_statement(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return imported(ast.Module([node], []))
    return set()


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split("\n")[-2].split(" "))


def cli(*words: str) -> str:
    return f"from codec2_eq.cli import main; main({list(words)!r})"


def test_a_shell_stage_loads_no_heavy_library(samples_dir, tmp_path):
    wav = str(samples_dir / "espeak_male_1.wav")
    loaded = loaded_by(cli("run", wav, "-o", str(tmp_path / "a.f32")))
    assert "numpy" in loaded
    unwanted = {*HEAVY, "soxr", "soundfile", "tqdm", "multiprocessing", "logging", "asyncio"}
    assert not loaded & unwanted


def test_help_does_not_load_numpy():
    code = "\ntry:\n import codec2_eq.cli as c; c.main(['--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys{code}print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extract" in done.stdout
    assert "numpy" not in done.stderr.split()
