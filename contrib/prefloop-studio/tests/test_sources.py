"""Data sets in the Hub's cache, whose first rows are shown without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow
import pyarrow.parquet
import pytest

ROWS = [{"question": f"How much is {i} and {i}?", "answer": 2 * i} for i in range(9)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TWO = "configs:\n- {config_name: a, data_files: a.jsonl}\n- {config_name: b, data_files: b.jsonl}\n"


def cached(cache: Path, name: str, files: dict[str, str], version: str = "main") -> Path:
    """A data set as the Hub's cache holds it; the folder of its files."""
    repo = cache / f"datasets--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / version.encode().hex().ljust(40, "0")
    for folder in (snapshot, repo / "blobs", repo / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    if version == "main":
        (repo / "refs" / "main").write_text(snapshot.name)
    for file, text in files.items():
        blob = repo / "blobs" / f"{version}-{file}"
        blob.write_text(text)
        (snapshot / file).symlink_to(blob)
    return snapshot


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Who asks a server that a user started, with data sets in the cache."""
    cache, folder = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("work")
    cached(cache, "some/lines", {"train.jsonl": LINES, "test.jsonl": LINES.splitlines()[8], "README.md": ""})
    cached(cache, "some/lines", {"train.jsonl": '{"other": 1}\n'}, "newer")
    parquet = cached(cache, "some/parquet", {}) / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), parquet)
    cached(cache, "some/two", {"README.md": f"---\n{TWO}---\n", "a.jsonl": '{"x": 1}\n', "b.jsonl": LINES})
    cached(cache, "some/damaged", {"train.jsonl": '{"question": "How'})
    cached(cache, "some/damaged-parquet", {"train.parquet": "PAR1"})
    cached(cache, "some/page", {"README.md": "Only a page."})
    cached(cache, "some/nothing", {}, "removed").rmdir()
    command = [sys.executable, "-m", "prefloop", "studio", "--no-browser", "--port", "0"]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    assert server.stdout
    address, _, token = server.stdout.readline().split()[1].partition("#token=")
    with httpx.Client(base_url=address, headers={"x-prefloop-token": token}, timeout=60) as client:
        yield client
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ({"path": "some/lines"}, ROWS[:5]),
        ({"path": "some/lines", "name": "", "split": "test"}, ROWS[8:]),
        ({"path": "some/parquet"}, ROWS[:5]),
        ({"path": "some/two", "name": "b"}, ROWS[:5]),
    ],
)
def test_a_cached_data_set_shows_its_first_rows(
    studio: httpx.Client, asked: dict[str, str], first: list[dict[str, object]]
) -> None:
    assert asked["path"] in [found["path"] for found in studio.get("/api/sources").json()["data"]]
    found = studio.get("/api/preview", params=asked).json()
    assert found == {
        "columns": ["question", "answer"],
        "rows": [{key: str(value) for key, value in row.items()} for row in first],
    }


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"path": "some/damaged"}, "the data set 'some/damaged' in the Hub's cache cannot be read: JSON "),
        ({"path": "some/damaged-parquet"}, "the data set 'some/damaged-parquet' in the Hub's cache cannot"),
        ({"path": "some/page"}, "the data set 'some/page' in the Hub's cache cannot be read: "),
        ({"path": "some/nothing"}, "the data set 'some/nothing' in the Hub's cache has no files."),
        ({"path": "some/lines", "split": "dev"}, "prompts.split: some/lines has no split 'dev'; it has "),
        ({"path": "some/two", "name": "c"}, "the data set 'some/two' in the Hub's cache cannot be read: "),
        ({"path": "other/one"}, "'other/one' is neither among the files in this folder nor in the Hub's"),
    ],
)
def test_one_that_cannot_be_read_says_so_in_a_sentence(
    studio: httpx.Client, asked: dict[str, str], says: str
) -> None:
    answer = studio.get("/api/preview", params=asked)
    (problem,) = answer.json()["problems"]
    assert answer.status_code == 400 and problem.startswith(says) and "\n" not in problem
