"""The arithmetic of several machines against cases worked by hand; its simulation against the arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from prefloop.errors import UserError
from prefloop.runs.files import sealed_lines
from prefloop.runs.records import completion_to_json
from prefloop.types import Completion, Prompt
from prefloop_plugins.scaling.machines import Link, Machines, read_machines
from prefloop_plugins.scaling.phases import Line, Phases, phases_of, phases_of_runs
from prefloop_plugins.scaling.simulation import play_ranks, play_workers
from prefloop_plugins.scaling.ways import advise, counts, learner_seconds, one, ranks, shares, ways, workers
from prefloop_plugins.scaling.wire import (
    EMPTY,
    SUMS,
    VERDICT,
    Work,
    json_bytes,
    ranks_bytes,
    ranks_seconds,
    ring_gather_bytes,
    ring_sum_bytes,
)
from support.run_files import step_line, write_run

WORK = Work(
    parameters=1_000_000 - SUMS,
    adapter_bytes=4_000_000,
    pairs=8,
    tokens=100,
    token_bytes=10,
    prompt_bytes=50,
)
FREE = Link(gbits=1e6, latency_ms=0)
PHASES = Phases(
    sampling=Line(0.2, 0.1),
    judging=Line(0, 0.01),
    scoring=Line(0.05, 0.05),
    update=0.1,
    tokens=100,
    spread=(1.0,),
    sizes=(4, 8),
    steps=10,
    source="by hand",
)
RAGGED = evolve(PHASES, spread=(0.5, 1.0, 1.5))


def test_a_ring_moves_what_the_textbook_says() -> None:
    """4 MB over 4 machines: 3 segments of 1 MB in the scatter, and 3 in the gather."""
    assert ring_sum_bytes(4, 4e6) == 6e6
    assert ring_sum_bytes(2, 4e6) == 4e6
    assert ring_sum_bytes(1, 4e6) == 0
    assert ring_gather_bytes(3, 10.0) == 20.0


def test_a_step_of_ranks_moves_gradient_completions_and_verdicts() -> None:
    """3 ranks of 8 pairs: the largest share is 3, a pair has two completions of 100 tokens."""
    gradient = 2 * 2 * 4_000_000 / 3
    completions, verdicts = 2 * 3 * 2 * (EMPTY + 1000), 2 * 3 * VERDICT
    headers = 2 * 4 * 8
    assert ranks_bytes(WORK, 3) == pytest.approx(gradient + completions + verdicts + headers)


def test_seconds_on_the_wire_are_latency_and_bytes() -> None:
    """1 Gbit/s is 125 MB/s. Of 4 machines, 7 gathers are 3 messages each and a sum is 6."""
    link = Link(gbits=1, latency_ms=2)
    assert ranks_seconds(WORK, 4, link) == pytest.approx(27 * 0.002 + ranks_bytes(WORK, 4) / 125e6)
    assert ranks_seconds(WORK, 1, link) == 0


def test_what_json_takes_is_what_it_takes() -> None:
    prompts = [Prompt((1, 22), "ab"), Prompt((333,), "é")]
    token, prompt = json_bytes(prompts)  # "[1, 22]" and "[333]", '"ab"' and '"\\u00e9"'
    assert (token, prompt) == ((7 + 5 + 4 + 8) / 3, (7 + 5) / 2)
    said = json.dumps(completion_to_json(Completion((1, 22), "ab", False)))
    assert len(said) == EMPTY + (len("1, 22") + len("ab"))


def test_the_kinds_of_links_are_their_rate_without_the_headers() -> None:
    assert Link(kind="1gbe").rate == pytest.approx(0.94e9 / 8)
    assert Link(kind="1gbe", gbits=0.5).rate == pytest.approx(0.5e9 / 8)


def test_ranks_wait_for_the_largest_share_and_the_slowest() -> None:
    alone = one(WORK, PHASES).seconds
    assert alone == pytest.approx(0.2 + 0.8 + 0.08 + 0.05 + 0.4 + 0.1)
    way = ranks(WORK, [PHASES] * 3, 3, FREE)
    assert way.seconds == pytest.approx(0.2 + 0.3 + 0.03 + 0.05 + 0.15 + 0.1, rel=1e-4)
    slow = ranks(WORK, [PHASES, PHASES.faster(0.5)], 2, FREE)
    assert slow.seconds == pytest.approx(2 * (0.2 + 0.4 + 0.04 + 0.05 + 0.2 + 0.1), rel=1e-4)


def test_a_judge_on_one_rank_is_waited_for_with_all_pairs() -> None:
    alone = evolve(WORK, one_judge=True)
    shared, single = (ranks(work, [PHASES] * 4, 4, FREE).seconds for work in (WORK, alone))
    assert shared is not None and single is not None
    assert single - shared == pytest.approx(0.08 - 0.02)


def test_more_ranks_than_pairs_leave_some_without() -> None:
    assert shares(3, 5) == [1, 1, 1, 0, 0]
    assert sum(shares(17, 4)) == 17
    way = ranks(evolve(WORK, pairs=3), [PHASES] * 5, 5, FREE)
    assert way.seconds == pytest.approx(0.3 + 0.01 + 0.1 + 0.1, rel=1e-4)


def test_workers_are_bound_by_the_slowest_of_sampling_learning_and_the_wire() -> None:
    learning = learner_seconds(WORK, PHASES)
    assert learning == pytest.approx(0.08 + 0.45 + 0.1)
    two = workers(WORK, [PHASES] * 2, 2, FREE)  # one worker: sampling takes 1.0 s
    assert (two.seconds, two.synchronous) == pytest.approx((1.0, 1.0 + learning), rel=1e-4)
    assert two.staleness == 1
    three = workers(WORK, [PHASES] * 3, 3, FREE)  # 0.6 s each for 4 pairs
    assert three.seconds == pytest.approx(learning)
    slow = Link(gbits=0.032, latency_ms=0)  # 4 MB a second: two pushes of 4 MB
    assert workers(WORK, [PHASES] * 3, 3, slow).seconds == pytest.approx(2.0002)  # and 800 bytes of prompts


def test_pushing_to_all_workers_goes_over_the_learners_port() -> None:
    assert workers(WORK, None, 9, FREE).sent_bytes == 8 * 4_000_000 + 8 * 2 * 50


@pytest.mark.parametrize("machines", [2, 3, 5, 8, 12])
def test_ranks_without_spread_take_what_the_arithmetic_says(machines: int) -> None:
    link = Link(kind="1gbe")
    played = play_ranks(WORK, [PHASES] * machines, link)
    assert played.seconds == pytest.approx(ranks(WORK, [PHASES] * machines, machines, link).seconds)


@pytest.mark.parametrize("machines", [2, 3, 4, 5, 12])
def test_workers_without_spread_take_what_the_arithmetic_says(machines: int) -> None:
    """As all samples are fresh, and as they may be as old as it takes; the wire costs next to nothing."""
    way = workers(WORK, [PHASES] * machines, machines, FREE)
    fresh = play_workers(WORK, [PHASES] * machines, FREE, staleness=0)
    assert fresh.seconds == pytest.approx(way.synchronous, rel=1e-4)
    assert fresh.oldest == 0
    ahead = play_workers(WORK, [PHASES] * machines, FREE, staleness=way.staleness)
    assert ahead.seconds == pytest.approx(way.seconds, rel=1e-3)


def test_where_the_wire_is_the_bottleneck_workers_take_what_it_takes() -> None:
    slow = Link(gbits=0.032, latency_ms=0)
    played = play_workers(WORK, [PHASES] * 3, slow, staleness=8)
    assert played.seconds == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("staleness", [0, 1, 2, 8])
def test_no_sample_is_older_than_it_may_be(staleness: int) -> None:
    played = play_workers(WORK, [RAGGED] * 4, Link(kind="1gbe"), staleness)
    assert played.oldest <= staleness
    assert (played.oldest > 0) == (staleness > 0)


def test_spread_costs_ranks_time_and_workers_that_may_run_ahead_less() -> None:
    """Of three draws from 0.5, 1 and 1.5 the largest is 0.5 once in 27 times and 1.5 in 19 of them."""
    highest = (1 * 0.5 + 7 * 1.0 + 19 * 1.5) / 27
    equal = evolve(WORK, pairs=9)
    steady, ragged = (play_ranks(equal, [p] * 3, FREE, steps=20_000).seconds for p in (PHASES, RAGGED))
    at_work = steady - 0.1
    assert (ragged - 0.1) / at_work == pytest.approx(highest, rel=0.01)
    fresh, ahead = (play_workers(WORK, [RAGGED] * 3, FREE, s).seconds for s in (0, 8))
    assert ahead < fresh


def test_a_line_goes_through_the_means_of_each_batch_size() -> None:
    rows = [
        {"pairs": float(n), "completion_length": 10.0, "seconds_sampling": 0.2 + 0.1 * n + off}
        for n in (4, 8)
        for off in (-0.01, 0.01)
    ]
    found = phases_of(rows, "rows")
    assert (found.sampling.fixed, found.sampling.each) == pytest.approx((0.2, 0.1))
    assert found.sizes == (4, 8)
    single = phases_of(rows[:2], "rows")
    assert (single.sampling.fixed, single.sampling.each) == pytest.approx((0.0, 0.15))
    assert min(single.spread) == pytest.approx(0.59 / 0.6)


def test_nothing_takes_less_time_with_more_pairs() -> None:
    rows = [{"pairs": n, "completion_length": 1.0, "seconds_sampling": 1 / n} for n in (1.0, 4.0)]
    assert phases_of(rows, "rows").sampling == Line(0.625, 0.0)


def test_phases_come_from_a_run_without_its_first_step(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", steps=5)
    steps = [{**step_line(i), "completion_length": 7.0, "seconds_update": float(i)} for i in range(1, 6)]
    (path / "metrics.jsonl").write_bytes(sealed_lines(steps))
    found = phases_of_runs([path], trained=0)
    assert (found.steps, found.tokens) == (4, 7.0)
    assert found.step(4) == pytest.approx(0.1 + 0.2 + 0.3 + (2 + 3 + 4 + 5) / 4)


def test_a_run_without_a_second_step_measures_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no step is measured there after the first"):
        phases_of_runs([write_run(tmp_path / "run", steps=1)], trained=0)


def test_what_is_simpler_is_recommended_where_it_is_nearly_as_fast() -> None:
    found = ways(WORK, [PHASES] * 4, 4, FREE)  # 3 machines: 0.63 s with workers; 4: 0.67 s as ranks
    everything = advise(found, [True] * len(found))
    assert everything is not None and (everything.name, everything.machines) == ("workers", 3)
    assert "sampler.max_staleness: 1, sampler.portion: 4" in everything.why
    learning = [evolve(PHASES, scoring=Line(0.05, 0.3))] * 4
    much = advise(ways(WORK, learning, 4, FREE), [True] * len(found))
    assert much is not None and (much.name, much.machines) == ("ranks", 4)
    one_fits = advise(found, [way.name == "one" for way in found])
    assert one_fits is not None and one_fits.name == "one"
    slow = [PHASES, *[PHASES.faster(0.5)] * 3]
    unequal = ways(WORK, slow, 4, FREE)
    advice = advise(unequal, [True] * len(unequal))
    assert advice is not None and advice.name == "workers"
    assert advise(found, [False] * len(found)) is None
    assert advise(ways(WORK, None, 4, FREE), [True] * len(found)) is None


def test_numbers_of_machines_are_few() -> None:
    assert counts(3) == [1, 2, 3]
    assert counts(64) == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64]
    assert counts(12) == [*range(1, 9), 12]


def test_full_weights_go_to_no_worker() -> None:
    full = evolve(WORK, adapters=False)
    assert {way.name for way in ways(full, None, 4, FREE)} == {"one", "ranks"}


@pytest.mark.parametrize(
    ("text", "speeds"),
    [
        ("machines: 2, link: thunderbolt", [1.0, 1.0]),
        (
            "machines: [{speed: 2}, {count: 2, speed: 3}], link: {gbits: 2.5, latency_ms: 0.1}",
            [2.0, 3.0, 3.0],
        ),
    ],
)
def test_machines_are_written_in_a_few_words_or_a_file(
    text: str, speeds: list[float], tmp_path: Path
) -> None:
    assert [one.speed for one in read_machines(text).each] == speeds
    file = tmp_path / "machines.yaml"
    file.write_text(f"{{{text}}}", "utf-8")
    assert read_machines(str(file)) == read_machines(text)


def test_links_and_machines_in_a_program_are_checked_as_well() -> None:
    with pytest.raises(ValueError, match="must have a kind"):
        Link()
    with pytest.raises(ValueError, match="from 1 to 1024 machines, not 0"):
        Machines(Link(kind="1gbe"), 0)
