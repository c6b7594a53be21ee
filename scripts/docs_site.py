"""What the site needs besides mkdocs: equations as MathML, the READMEs of contrib/ as pages, patterns in nav.

A hook of mkdocs.yml. The built site asks no other host for anything: no font, no script, no picture.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = "packages"
_MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_FOREIGN = re.compile(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="((?:https?:)?//[^"]+)"')
_LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<to>(?!https?:|#)[^)]+)\)")


def on_config(config: Any) -> Any:
    """A pattern in the navigation stands for the pages that it matches, an overview first."""
    for section in config.nav:
        for title, pages in section.items():
            if isinstance(pages, str) and "*" in pages:
                found = sorted(Path(config.docs_dir).glob(pages), key=lambda p: (p.stem != "index", p.stem))
                section[title] = [str(path.relative_to(config.docs_dir)) for path in found]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Each package's README, as a page below ``packages/``."""
    for readme in sorted((ROOT / "contrib").glob("*/README.md")):
        name = readme.parent.name
        text = _LINK.sub(_from_package, readme.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"{PACKAGES}/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """A link out of docs/ leads to the page of a package's README, or nowhere: its words stay."""
    up = "../" * page.file.src_uri.count("/")

    def link(found: re.Match[str]) -> str:
        package = re.fullmatch(rf"{up}\.\./contrib/([\w-]+)/?", found["to"])
        if package:
            return f"[{found['words']}]({up}{PACKAGES}/{package[1]}.md)"
        return found["words"] if found["to"].startswith(f"{up}../") else found[0]

    return _LINK.sub(link, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Equations, which Markdown left as TeX, as MathML, which browsers draw by themselves."""
    return _MATHS.sub(lambda m: convert(html.unescape(m[2]), display=_DISPLAY[m[1]]), content)


_DISPLAY = {"span": "inline", "div": "block"}


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Raises `PluginError` where the page would fetch something from another host."""
    if found := _FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} fetches {found[1]}: a page asks no other host for anything.")
    return output


def _from_package(link: re.Match[str]) -> str:
    """A link in a package's README: to another package's, to ours, or to a file that the site lacks."""
    to = link["to"].rstrip("/")
    if to == "../../README.md":
        return f"[{link['words']}](../index.md)"
    if re.fullmatch(r"\.\./prefloop-[\w-]+", to):
        return f"[{link['words']}]({to[3:]}.md)"
    return link["words"]
