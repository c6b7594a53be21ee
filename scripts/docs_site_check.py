"""`python scripts/docs_site_check.py SITE`: each page of a site is there as Markdown, in llms.txt.

Every link from one Markdown file to another leads somewhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+\.md)(?:#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def problems(site: Path) -> Iterator[str]:
    """What is wrong, one line each."""
    listed = set(_LINK.findall((site / "llms.txt").read_text(encoding="utf-8")))
    pages = [page.relative_to(site) for page in site.rglob("*.html") if page.name != "404.html"]
    if not pages:
        yield f"{site} has no pages"
    for page in pages:
        markdown = page.with_suffix(".md")
        if not (site / markdown).is_file() or not (site / markdown).read_text(encoding="utf-8").strip():
            yield f"{page} has no {markdown} beside it"
        if str(markdown) not in listed:
            yield f"{markdown} is not in llms.txt"
    for file in [site / "llms.txt", *site.rglob("*.md")]:
        for link in _LINK.findall(_CODE.sub("", file.read_text(encoding="utf-8"))):
            if not (file.parent / link).is_file():
                yield f"{file.relative_to(site)} links to {link}, which is not there"


if __name__ == "__main__":
    found = sorted(problems(Path(sys.argv[1])))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))
