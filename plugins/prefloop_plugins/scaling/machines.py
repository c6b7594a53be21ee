"""Machines and the link between them, as a file or a few words say it."""

# No `from __future__ import annotations` here: the annotations are read at run time.
from pathlib import Path
from typing import ClassVar, Literal

from attrs import evolve, field, frozen
from attrs.validators import ge, gt, le, optional

from prefloop.config.components import ComponentLookup
from prefloop.config.structure import Structurer
from prefloop.config.yaml_nodes import InvalidError, Node, Place, Problem, read_file, read_text
from prefloop.errors import UserError, guess_neighbour
from prefloop.settings import about, not_empty, setting

Kind = Literal["1gbe", "10gbe", "thunderbolt"]
PAYLOAD = 0.94
"""Of Ethernet's rate, what is left for data: 1448 of the 1538 bytes that a full frame of TCP takes."""
KINDS = {"1gbe": 1 * PAYLOAD, "10gbe": 10 * PAYLOAD, "thunderbolt": 10 * PAYLOAD}
"""Gbit/s of data each way. A Thunderbolt bridge is taken to be what Thunderbolt 3 promises between computers,
10 Gbit/s Ethernet; newer ones may do more."""
LATENCY_MS = 0.2
"""Taken for a message where nothing is said: an assumption, not a measurement."""
MOST = 1024


@frozen
class Link:
    """What joins the machines: full duplex, each machine with one port of this rate."""

    shorthand: ClassVar[str] = "kind"

    kind: Kind | None = setting(None, "1gbe, 10gbe or thunderbolt.")
    gbits: float | None = setting(
        None,
        "Gbit/s of data each way, as iperf3 measures it; null is the kind's.",
        optional([gt(0), le(1e6)]),
    )
    latency_ms: float = setting(LATENCY_MS, "Milliseconds that a message takes besides.", ge(0), le(1e5))

    def __attrs_post_init__(self) -> None:
        if self.kind is None and self.gbits is None:
            raise ValueError(f"must have a kind ({', '.join(KINDS)}) or gbits: NUMBER.")

    @property
    def rate(self) -> float:
        """Bytes a second each way."""
        gbits = KINDS[self.kind] if self.gbits is None and self.kind else self.gbits
        return float(gbits or 0) * 1e9 / 8

    def seconds(self, count: float, messages: int = 1) -> float:
        """How long so many bytes take, one message after the other."""
        return messages * self.latency_ms / 1e3 + count / self.rate

    def words(self) -> str:
        kind = f"{self.kind}: " if self.kind else ""
        return f"{kind}{self.rate * 8 / 1e9:.3g} Gbit/s of data each way, {self.latency_ms:g} ms a message"


@frozen
class Machine:
    """One machine, or several that are alike."""

    count: int = setting(1, "How many of them there are.", ge(1), le(MOST))
    name: str | None = setting(None, "What the plan calls it.", optional(not_empty))
    memory_gb: float | None = setting(
        None, "Memory that a run may use, in gigabytes; null leaves it unchecked.", optional(gt(0))
    )
    speed: float = setting(
        1.0, "Its speed as a multiple of that of the machine that was measured.", gt(0), le(1e6)
    )
    measured: str | None = setting(
        None, "Folder of a run of the configuration on it, whose phases are taken.", optional(not_empty)
    )

    def __attrs_post_init__(self) -> None:
        if self.measured is not None and self.speed != 1:
            raise ValueError("measured and speed exclude each other: give one of them.")


@frozen
class Machines:
    """The file of ``--machines``. The first machine is rank 0, or the learner of workers."""

    link: Link = field(metadata=about("What joins them: a kind, or gbits and latency_ms."))
    machines: int | tuple[Machine, ...] = field(
        metadata=about("How many there are, or a list of them with what tells them apart.")
    )

    def __attrs_post_init__(self) -> None:
        if not 1 <= len(self.each) <= MOST:
            raise ValueError(f"must have from 1 to {MOST} machines, not {len(self.each):,}.")

    @property
    def each(self) -> tuple[Machine, ...]:
        """One entry a machine, each with a count of one."""
        if isinstance(self.machines, int):
            return (Machine(),) * min(max(self.machines, 0), MOST + 1)
        return tuple(evolve(one, count=1) for one in self.machines for _ in range(one.count))


def read_machines(given: str) -> Machines:
    """The machines in a file, or written out as in ``machines: 2, link: thunderbolt``.

    Raises `UserError` with every problem that was found.
    """
    root, problems = _read(given)
    found: Machines | None = None
    if not problems:
        try:
            found = Structurer(ComponentLookup(), root).structure(root, Machines)
        except InvalidError as error:
            problems = list(error.problems)
    if found is None:
        raise UserError(*map(str, problems))
    return found


def _read(given: str) -> tuple[Node, list[Problem]]:
    path = Path(given)
    if path.suffix.lower() in (".yaml", ".yml") or ":" not in given or path.exists():
        if not path.exists():
            raise UserError(
                f"--machines {given}: there is no such file.{guess_neighbour(path)} Without a file, write "
                "--machines 'machines: 2, link: thunderbolt'."
            )
        if path.is_file() and not path.read_bytes().strip():
            raise UserError(f"{path}: the file is empty. Write 'machines: 2' and 'link: thunderbolt' in it.")
        return read_file(path)
    return read_text(f"{{{given}}}", Place(f"--machines '{given}'"))
