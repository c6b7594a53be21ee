"""The end of a large file is found without reading the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefloop_studio import tail as module
from prefloop_studio.tail import tail


@pytest.mark.parametrize("block", [1, 7, 2**16])
@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", b"a\nbb\n\nccc\n", b"a\nbb\nccc\nhalf"])
def test_the_last_lines_begin_where_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, block: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    (tmp_path / "file").write_bytes(content)
    whole = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
    for lines in (1, 2, 3, 10):
        start = tail(tmp_path / "file", lines)
        assert start == 0 or content[start - 1 : start] == b"\n"
        found = content[start : content.rfind(b"\n") + 1].splitlines(keepends=True)
        assert found == whole[-lines:]


def test_a_file_that_is_not_there_begins_at_its_beginning(tmp_path: Path) -> None:
    assert tail(tmp_path / "none", 3) == 0
