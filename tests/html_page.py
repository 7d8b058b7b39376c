# SPDX-License-Identifier: LGPL-2.1-or-later
"""An HTML page by its elements, for the tests of reports, and a name that HTML has to escape."""

from html.parser import HTMLParser

ODD_NAME = "odd <&> \"name' é.wav"
VOID = {"meta", "img", "link", "br", "hr", "input", "source"}


class Page(HTMLParser):
    """Elements in order, each with its attributes and the text within; checks the nesting."""

    def __init__(self, html):
        super().__init__()
        self.elements: list[dict] = []
        self._open: list[dict] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        element = {"tag": tag, "text": "", **{f"@{k}": v for k, v in attributes}}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        wanted = {f"@{k}": v for k, v in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and wanted.items() <= e.items()]

    def rows(self):
        """Texts of the cells of all table rows."""
        rows: list[list[str]] = []
        for element in self.elements:
            if element["tag"] == "tr":
                rows.append([])
            elif element["tag"] in ("th", "td"):
                rows[-1].append(element["text"])
        return rows
