# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules that keep the stages apart and the start quick, as docs/architecture.md tells them."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import codec2_eq

PACKAGE = Path(codec2_eq.__file__).parent
ROOT = PACKAGE.parent
DOCUMENT = ROOT / "docs" / "architecture.md"

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
    "filelock",
    "shtab",
)
MOST_LINES = 420
MOST_ROOMS = 24
MOST_SKIPS = 10


def table() -> dict[str, set[str]]:
    """Rooms in the order of the document's table, and the modules that it lists for each."""
    rows = re.findall(r"^\| `(\w+)/?` \| ([^|]*) \| [^|]+ \|$", DOCUMENT.read_text(), re.M)
    assert len(rows) > 20, "the table of rooms is not found"
    return {room: set(re.findall(r"`(\w+)`", modules)) for room, modules in rows}


ROOMS = table()


def sources() -> dict[str, Path]:
    """All modules, compiled ones too, by name within the package: `vq.train`."""
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]
    }
    assert len(found) > 50
    return found


NAMES = {name.removesuffix(".__init__") for name in sources()}


def modules() -> dict[str, ast.Module]:
    return {n: ast.parse(p.read_text()) for n, p in sources().items() if p.suffix == ".py"}


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those that only type checkers see."""
    nodes = [tree]
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            nodes += runtime_nodes(child)
    return nodes


def imported(tree: ast.AST) -> set[str]:
    """All names that import statements name, those in functions too, in full."""
    names = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports within the package are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("codec2_eq.") in NAMES
                names.add(whole if is_module else str(node.module))
    return names


def own_imports(tree: ast.AST) -> set[str]:
    """Modules of the package that a module imports, by name within it."""
    names = {n.removeprefix("codec2_eq.") for n in imported(tree) if n.startswith("codec2_eq.")}
    return names & NAMES


def test_the_document_lists_every_module():
    for name in sources():
        room, _, module = name.partition(".")
        assert room in ROOMS, f"docs/architecture.md: no row for {room}"
        if module and module != "__init__":
            assert module in ROOMS[room], (
                f"docs/architecture.md: the row of {room}/ does not list `{module}`; add it there"
            )


def test_the_document_lists_no_module_that_is_gone():
    names = set(sources())
    for room, listed in ROOMS.items():
        assert room in names or f"{room}.__init__" in names, f"docs/architecture.md: {room}"
        for module in listed:
            assert f"{room}.{module}" in names, f"docs/architecture.md: {room}/{module}"


def test_rooms_import_only_what_stands_above_them():
    order = list(ROOMS)
    for name, tree in modules().items():
        room = name.split(".")[0]
        for other in own_imports(tree):
            above = order.index(other.split(".")[0]) <= order.index(room)
            assert above, f"{name} imports {other}, which stands below it in docs/architecture.md"


def test_no_circle_of_imports():
    graph = {n.removesuffix(".__init__"): own_imports(tree) for n, tree in modules().items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph.get(name, set()) - {name}):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


HOPS = re.findall(r"\[`([\w.]+)`\]\((\.\./codec2_eq/[^)]*)\)", DOCUMENT.read_text())


@pytest.mark.parametrize("name, link", HOPS)
def test_the_hops_of_the_document_are_there(name, link):
    path = (DOCUMENT.parent / link).resolve()
    assert path.is_file(), link
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = importlib.import_module(module.removesuffix(".__init__"))
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_the_document_has_three_ways():
    hops = re.findall(r"^\d+\. \[`[\w.]+`\]\(\.\./codec2_eq/", DOCUMENT.read_text(), re.M)
    assert len(hops) >= 18


def test_the_package_is_no_attic():
    rooms = {p.name for p in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert len(rooms) <= MOST_ROOMS, sorted(rooms)
    assert not [
        name for name in rooms if name.endswith((".pyx", ".pxi", ".pxd", ".h", ".c", ".so"))
    ]
    assert not [n for n in sources() if re.search(r"\b(utils?|helpers?|common|misc)\b", n)]


def test_modules_are_short():
    paths = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyx", ".pxi", ".h")]
    for path in paths:
        n_lines = len(path.read_text().splitlines())
        assert n_lines <= MOST_LINES, f"{path.relative_to(ROOT)}: {n_lines} lines"


def test_formatting_is_ruffs():
    trees = [PACKAGE, ROOT / "tests", ROOT / "scripts"]
    texts = [p.read_text() for tree in trees for p in tree.rglob("*.py")]
    skip = "fmt: " + "skip"
    assert sum(text.count(skip) for text in texts) <= MOST_SKIPS
    command = [sys.executable, "-m", "ruff", "format", "--check", *map(str, trees)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cython_directives_stand_in_one_place():
    for path in [*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxi")]:
        assert not re.search(r"^#\s*cython:", path.read_text(), re.M), path


def test_public_names_are_typed_as_they_are_found():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        str(
            alias.asname
        ): node.module  # without `as`, strict type checkers take it for a private name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == codec2_eq.__all__
    for module, names in codec2_eq._HOME.items():
        for name in names:
            assert typed[name] == f"codec2_eq.{module}"
            assert getattr(codec2_eq, name) is getattr(
                importlib.import_module(f"codec2_eq.{module}"), name
            )
    assert set(codec2_eq.__all__) <= set(dir(codec2_eq))


def test_only_training_imports_keras():
    for name, tree in modules().items():
        heads = {n.split(".")[0] for n in imported(tree)}
        keras = heads & {"keras", "tensorflow"}
        assert name.startswith(("training.", "equalisers.keras_")) or not keras, name


def test_heavy_libraries_are_imported_where_they_are_used():
    for name, tree in modules().items():
        # Keras layers are classes, which training defines at its top
        at_top = {n.split(".")[0] for node in tree.body for n in imported_by_statement(node)}
        allowed = name.startswith(("training.", "equalisers.keras_"))
        assert allowed or not at_top & set(HEAVY), name


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


def test_manual_pages_are_made_before_anything_is_compiled():
    loaded = loaded_by("from codec2_eq import cli; cli.whole_parser()")
    assert "codec2_eq.commands.vq" in loaded and "numpy" not in loaded
