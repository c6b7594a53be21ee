"""The pages in a real browser, as people use them: what is on the screen, and on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Studio

from conftest import wait_for
from prefloop.runs.files import append_lines
from prefloop.runs.holding import holder_of
from prefloop_plugins.commands.exporting import export_pairs
from prefloop_studio import drafts
from prefloop_studio.labels import LabelQueue

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = pytest.mark.slow
NASTY = (
    '<script>window.hit = 1</script><img src=x onerror="window.hit = 2">\x1b[31mred\x1b[0m '
    "\u202eright to left\u202c [link](javascript:window.hit=3) **bold** `code`"
)


@pytest.fixture
def studio(runs: Path, chromium: Any) -> Iterator[Studio]:
    with Studio(runs, chromium) as made:
        yield made
    for name in runs.iterdir():
        if process := holder_of(name):
            os.kill(process, signal.SIGKILL)
    assert made.errors == []
    assert {host.partition(":")[0] for host in made.hosts} == {"127.0.0.1"}, "another host was asked"


def tile(page: Any, name: str) -> str:
    return page.locator(".tile", has_text=name).locator(".value").first.inner_text()


def field(page: Any, path: str) -> Any:
    return page.locator(f'[data-path="{path}"]')


def set_field(page: Any, path: str, value: str) -> None:
    """Write into a field of the form and wait until the YAML has followed."""
    before = page.input_value("textarea.yaml")
    field(page, path).fill(value)
    field(page, path).press("Tab")
    page.wait_for_function("before => document.querySelector('textarea.yaml').value !== before", arg=before)


def test_a_run_from_the_form_to_a_comparison(studio: Studio) -> None:
    page = studio.page("#/train")
    page.wait_for_selector('[data-path="algorithm"]')
    field(page, "algorithm").select_option("xpo")
    page.wait_for_selector('[data-path="algorithm.alpha"]')
    set_field(page, "algorithm.alpha", "[1e-4, 1e-5]")
    page.locator(".schedule").scroll_into_view_if_needed()
    page.wait_for_selector(".schedule canvas")  # a chart is drawn when it is seen
    set_field(page, "training.iters", "2000")
    set_field(page, "training.evaluate_every", "0")
    set_field(page, "training.learning_rate", "1e-6")
    assert drafts.read(page.input_value("textarea.yaml"))["resolved"]["algorithm"]["alpha"] == [1e-4, 1e-5]

    set_field(page, "adapter.rank", "0")  # what is wrong is said at the field, and cannot be started
    page.wait_for_selector('[data-problem="adapter.rank"]:not([hidden])')
    assert page.get_by_role("button", name="Start", exact=True).is_disabled()
    set_field(page, "adapter.rank", "4")
    page.wait_for_selector('[data-problem="adapter.rank"]', state="hidden")

    page.get_by_label("Name of the run").fill("mine")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/run/mine", timeout=60_000)
    page.wait_for_selector(".badge.running")
    first = wait_for(lambda: int(tile(page, "Step").replace(",", "")))
    wait_for(lambda: int(tile(page, "Step").replace(",", "")) > first)
    wait_for(lambda: page.locator(".chart canvas").count() >= 3)
    page.close()  # the run does not mind

    page = studio.page("#/run/mine")
    page.wait_for_selector(".badge.running")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".badge.stopped", timeout=60_000)
    stopped_at = int(tile(page, "Step").replace(",", ""))
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector(".badge.running", timeout=60_000)
    wait_for(lambda: int(tile(page, "Step").replace(",", "")) > stopped_at)

    process = holder_of(studio.folder / "mine")
    assert process
    os.kill(process, signal.SIGKILL)
    page.wait_for_selector(".badge.interrupted")
    assert "was killed" in page.inner_text("main")
    assert page.get_by_role("button", name="Resume").is_visible()

    studio.go(page, "#/compare/mine/first")
    page.wait_for_selector("section table")
    text = page.inner_text("main")
    assert "algorithm.use" in text and "prefloop:xpo" in text and "prefloop:online_dpo" in text


def test_labels_survive_everything(studio: Studio, tmp_path: Path) -> None:
    settings = {
        "model": "embedded:policy",
        "prompts": {"path": "embedded:prompts", "limit": 60},
        "judge": {"use": "web", "undo_seconds": 0},
        "sampler": {"max_completion_length": 24, "temperature": 1.3},
        "training": {"batch_size": 5, "iters": 5, "save_every": 1},
        "evaluation": {"held_out": 0},
        "output": {"path": str(studio.folder / "labelled"), "report": False},
    }
    (tmp_path / "web.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "prefloop", "train", str(tmp_path / "web.yaml")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    queue = LabelQueue(studio.folder / "labelled")
    wait_for(lambda: queue.folder.is_dir() and queue.open())

    page = studio.page("#/label/labelled")
    given = 0

    def answer(key: str) -> None:
        nonlocal given
        page.wait_for_selector('[aria-busy="false"] .choices', timeout=10_000)
        before = len(queue.answers())
        page.keyboard.press(key)
        wait_for(lambda: len(queue.answers()) > before)
        given += 1

    for number in range(7):
        answer(("1", "2", "Shift+1", "t")[number % 4])
    page.keyboard.press("u")  # the last one is taken back, unless its batch is learnt from already
    page.close()
    studio.kill()
    assert run.poll() is None, "the run goes on without the server"
    studio.start()
    page = studio.page("#/label/labelled")
    ends = time.monotonic() + 240
    while run.poll() is None and time.monotonic() < ends:
        try:
            answer(("1", "2", "Shift+2", "s", "b", "1")[given % 6])
        except playwright.TimeoutError:
            continue  # the next pairs are still being sampled, or there are none
    assert run.wait(60) == 0
    assert given >= 20
    ledger = [json.loads(line) for line in (queue.run / "judgements.jsonl").read_text().splitlines()]
    asked = [line for line in ledger if line["reason"] != "both answers are the same"]
    last = {json.dumps([line["prompt"], line["first"], line["second"]]): line for line in asked}
    answers = {a.id: a for a in queue.answers() if not a.again}
    assert len(last) == len(answers) == len(queue.questions())
    said = sorted((a.status, round(a.probability, 6)) for a in answers.values())
    assert sorted((line["status"], round(line["probability"], 6)) for line in last.values()) == said


def test_an_arena_pick_is_a_judgement(studio: Studio) -> None:
    page = studio.page("#/arena/first")
    page.wait_for_selector(".say textarea")
    page.get_by_label("Second answer").select_option("two")
    page.fill(".say textarea", "What does a cow say?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".keys", timeout=90_000)
    texts = page.locator(".pair .answer .written, .pair .answer .rich").all_inner_texts()
    page.keyboard.press("Shift+2")
    page.wait_for_selector(".answer.won")
    (line,) = (studio.folder / "first" / "picks" / "judgements.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["judge"] == "prefloop-studio:arena" and found["probability"] == pytest.approx(0.01)
    (row,) = export_pairs(studio.folder / "first" / "picks").rows
    assert row["prompt"] == [{"role": "user", "content": "What does a cow say?"}]
    assert row["chosen"][0]["content"] == found["second"]["text"] and len(texts) >= 2
    with page.expect_download() as download:
        page.get_by_text("export").click()
    assert json.loads(Path(download.value.path()).read_text()) == row


def test_what_a_model_writes_is_never_more_than_text(studio: Studio) -> None:
    folder = studio.folder / "first"
    line = json.loads((folder / "judgements.jsonl").read_text().splitlines()[-1])
    line.pop("crc")
    line |= {"prompt": NASTY, "evaluation": False}
    for side in ("first", "second"):
        line[side] = {**line[side], "text": f"{side} {NASTY}"}
    append_lines(folder / "judgements.jsonl", [line])
    (folder / "log.txt").write_text(f"{NASTY}\n")
    question = {"id": "0" * 24, "prompt": NASTY, "text": NASTY, "first": f"a {NASTY}", "second": f"b {NASTY}"}
    (folder / "labels").mkdir()
    append_lines(folder / "labels" / "questions.jsonl", [question])
    for where, selector in (("#/run/first", ".judged"), ("#/label/first", ".choices"), ("#/runs", ".card")):
        page = studio.page(where)
        page.wait_for_selector(selector)
        if "label" in where:
            page.get_by_label("Markdown").check()
            page.wait_for_selector(".rich strong")
            assert page.locator(".rich a, .rich img, .rich script").count() == 0
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit") is None
        assert page.locator("main img, main script").count() == 0
        if where != "#/runs":
            text = page.inner_text("main")
            assert "<script>" in text and "U+001B" in text and "U+202E" in text
