"""The benchmark of several machines: what it counts and starts from, and that its tables follow from it."""

from __future__ import annotations

import pytest
from benchmarks.harness import records
from benchmarks.scaling.bodies import REAL_ROWS, RESULTS, on_record
from benchmarks.scaling.here import PACKET
from benchmarks.scaling.simulating import GRADIENTS, read, simulate, wires
from benchmarks.scaling.tables import block
from benchmarks.scaling.wires import can_count, run_counted

SENDS = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
inside, _ = server.accept()
threading.Thread(target=lambda: (client.sendall(b"x" * {count}), client.close())).start()
while inside.recv(1 << 16): pass
"""


@pytest.mark.skipif(not can_count(), reason="a network of one's own needs Linux and root")
def test_the_kernel_counts_what_a_program_sends_and_nobody_else() -> None:
    counted = run_counted(["-c", SENDS.format(count=1_000_000)])
    assert counted.bytes - PACKET * counted.packets == pytest.approx(1_000_000, rel=1e-3)


def test_phases_on_record_are_those_of_the_speed_table() -> None:
    """A line through two sizes goes through both."""
    phases, provenance = on_record(REAL_ROWS)
    sides = [records.load(records.RESULTS / "speed.json")[name]["sides"]["prefloop"] for name in REAL_ROWS]
    line = phases["sampling"]
    for pairs, side in zip((1, 4), sides, strict=True):
        assert line["fixed"] + line["each"] * pairs == pytest.approx(side["sampling_seconds"])
    assert provenance["commit"]


def test_what_is_on_record_follows_from_the_phases_on_record() -> None:
    """The first rows; the rest takes longer."""
    results = records.load(RESULTS)
    found = results["phases SmolLM2-135M"]
    kept = results["simulation SmolLM2-135M"]["rows"]
    again = simulate(found, sizes=(16,), links=("1gbe",), machines=(2, 4))
    by = {(r["pairs"], r.get("link"), r["machines"], r["way"]): r["seconds"] for r in kept}
    for row in again:
        key = (row["pairs"], row.get("link"), row["machines"], row["way"])
        assert row["seconds"] == pytest.approx(by[key], rel=1e-6)


def test_more_ranks_send_more_and_a_faster_link_takes_less() -> None:
    rows = [row for row in wires() if row["name"].startswith("a 4B")]
    assert [row["bytes"] for row in rows] == sorted(row["bytes"] for row in rows)
    assert all(row["seconds"]["10gbe"] < row["seconds"]["1gbe"] for row in rows)


def test_the_adapters_of_smollm2_are_as_many_as_the_plan_counted() -> None:
    work, _ = read(records.load(RESULTS)["phases SmolLM2-135M"])
    assert work.parameters == GRADIENTS["SmolLM2-135M, LoRA 8 on 30 layers"]


@pytest.mark.parametrize("name", ["phases", "wire", "simulated quick start", "origin"])
def test_tables_have_their_rows(name: str) -> None:
    assert block(name).count("\n") > 2
