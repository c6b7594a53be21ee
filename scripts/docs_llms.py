"""The site for programs that read text: every page as Markdown beside it, and `llms.txt`, which lists them.

A hook of mkdocs.yml, after the one that makes the pages. The form of the list is that of https://llmstxt.org.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markdownify import markdownify
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

LIST = "llms.txt"
_COMMENT = re.compile(r"^```.*?^```|`[^`\n]*`|(?P<comment><!--.*?-->\n?)", re.DOTALL | re.MULTILINE)
"""Code, which stays as it is, or a comment."""
_OF_THE_SITE = re.compile(r"\s*\[¶\]\([^)]*\)|(?P<page>\]\((?!https?:)[^)#\s]+)\.html")
"""What a page as built has besides: permanent links, and links to pages of the site."""
_GENERATED = re.compile(r"^::: ", re.MULTILINE)
"""What mkdocstrings turns into documentation of a Python name."""
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_texts: dict[str, str] = {}
"""The pages that were built, by where their Markdown goes."""
_sections: list[tuple[str, list[Page]]] = []


def on_nav(nav: Navigation, **_: Any) -> None:
    """Remember the order of the pages, by the sections that they are in."""
    _texts.clear()
    top = [item for item in nav.items if isinstance(item, Page)]
    below = {i.title: i.children for i in nav.items if isinstance(i, Section)}
    pages = ((title, [p for p in children if isinstance(p, Page)]) for title, children in below.items())
    _sections[:] = [("Overview", top), *pages]


def on_page_content(content: str, *, page: Page, **_: Any) -> None:
    """The source of a page is Markdown already, but where it has what only the site fills in."""
    source = page.markdown or ""
    if _GENERATED.search(source):
        built = markdownify(content, heading_style="ATX")
        text = _OF_THE_SITE.sub(lambda m: f"{m['page']}.md" if m["page"] else "", built)
    else:
        text = _COMMENT.sub(lambda m: "" if m["comment"] else m[0], source)
    _texts[_place(page)] = text.strip() + "\n"


def on_post_build(*, config: Any) -> None:
    """Write all of it into the site. A page that is in no section is optional."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    listed = {_place(page) for _, pages in _sections for page in pages}
    for title, pages in _sections:
        lines += [f"## {title}", "", *(_entry(str(page.title), _place(page)) for page in pages), ""]
    lines += [
        "## Optional",
        "",
        *(_entry(Path(place).stem, place) for place in sorted(_texts.keys() - listed)),
    ]
    site = Path(config.site_dir)
    (site / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for place, text in _texts.items():
        (site / place).write_text(text, encoding="utf-8")


def _place(page: Page) -> str:
    return str(Path(page.file.dest_uri).with_suffix(".md"))


def _entry(title: str, place: str) -> str:
    """A page with the first sentence of its text."""
    paragraphs = (" ".join(part.split()) for part in _texts[place].split("\n\n"))
    first = next((part for part in paragraphs if part[:1].isalnum()), "")
    sentence = re.split(r"(?<=[.?!])\s", _LINK.sub(r"\1", first), maxsplit=1)[0]
    return f"- [{title}]({place})" + (f": {sentence}" if sentence else "")
