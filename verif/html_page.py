"""What a browser finds in a page: ids, tables, and what it would load."""

import re
from html.parser import HTMLParser

LOADING = {"audio", "base", "embed", "iframe", "img", "link", "object", "script", "source", "video"}


class Page(HTMLParser):
    """A page that is read.

    ids : every id, in order
    loads : everything that is not in the page itself
    tables : rows of cells of each table
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = [found for found in re.findall(r"url\(\s*([^)]*)\)|(@import)", text) if found[0][:1] != "#"]
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        found = {name.rpartition(":")[2] if name.startswith("xlink") else name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        links = [found[name] for name in ("src", "href", "data") if name in found]
        self.loads += [link for link in links if not link.startswith("#")] + [tag] * (tag in LOADING)
        self._cell = tag in ("td", "th")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if self._cell:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a cell."""
        self._cell = False

    def handle_data(self, data: str) -> None:
        """Note the text of a cell."""
        if self._cell:
            self.tables[-1][-1][-1] += data
