# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks of `make docs`: pages from files beside docs/, notebooks run, the reference, links."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import codec2_eq

ROOT = Path(__file__).resolve().parent.parent

PAGES = {
    "index.md": "README.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site by the files of the repository that they are made from."""

NOTEBOOKS = ("tutorial",)

STYLE = (
    ".md-typeset table code { word-break: normal; }  /* narrow tables scroll, words stay whole */"
)

PICTURES = re.compile(r"!\[[^\]]*\]\((?:\.\./)?(models/[\w.]+\.png)\)")


def on_config(config: Any) -> Any:
    """Put pages that the table of contents does not name at its end."""
    named = set(re.findall(r"\w+\.md", str(config.nav)))
    config.nav += sorted({path.name for path in (ROOT / "docs").glob("*.md")} - named)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that do not stand in docs/."""
    made = {page: (ROOT / source).read_text() for page, source in PAGES.items()}
    pictures = {p for text in [*made.values(), *_own_pages()] for p in PICTURES.findall(text)}
    for page, text in made.items():
        files.append(File.generated(config, page, content=_within_site(text)))
    for picture in sorted(pictures):
        files.append(File.generated(config, picture, content=(ROOT / picture).read_bytes()))
    for name in NOTEBOOKS:
        for file, content in notebook_page(ROOT / "docs" / f"{name}.ipynb").items():
            files.append(File.generated(config, file, content=content))
    files.append(File.generated(config, "site.css", content=STYLE + "\n"))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """Run a notebook in its folder: its page `NAME.md`, and the pictures on it by their names."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    quiet = ["--log-level=ERROR"]  # of the kernel, which else warns of its transport
    NotebookClient(notebook, resources=resources, timeout=120, extra_arguments=quiet).execute()
    parts: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for cell in notebook.cells:
        parts.append(
            cell.source if cell.cell_type == "markdown" else _fenced(cell.source, "python")
        )
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Drawn by the lines above]({name})")
            elif "text/html" in data:
                parts.append(_one_line(data["text/html"]))
            elif "text" in output:
                parts.append(_fenced(output["text"], "text"))
    return {f"{path.stem}.md": "\n\n".join(parts) + "\n", **pictures}


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _one_line(html: str) -> str:
    """HTML that Markdown takes for one block."""
    return f"<div>{' '.join(html.split())}</div>"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show links to sources as the names that they are."""
    markdown = re.sub(r"\]\(\.\./(models/[\w.]+\.png)\)", r"](\1)", markdown)
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)


def reference() -> str:
    """The page of the public names, in the order of the package's table."""
    lines = ["# Python", "", "`import codec2_eq as ce`", ""]
    for module, names in codec2_eq._HOME.items():
        home = f"codec2_eq.{module}"
        for name in names:
            where = getattr(getattr(codec2_eq, name), "__module__", home)
            lines += [f"::: {where}.{name}", ""]
    return "\n".join(lines)


def _own_pages() -> list[str]:
    return [path.read_text() for path in (ROOT / "docs").glob("*.md")]


def _within_site(text: str) -> str:
    """Turn links of a file beside docs/ to those of a page in it; drop those that leave it."""
    for page, source in PAGES.items():
        text = text.replace(f"]({source})", f"]({page})")
    text = text.replace("](docs/", "](")
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|\w+\.md)[^)]*\)", r"\1", text)
