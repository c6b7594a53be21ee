"""Where a worker listens, and what it says where it cannot."""

from __future__ import annotations

import socket

import httpx
import pytest

from conftest import Process
from prefloop import UserError
from prefloop_sampler_remote.listening import listen


def test_a_connection_may_wait_before_it_is_served() -> None:
    """A worker's address is printed then, and its port is nobody else's."""
    with listen("127.0.0.1", 0) as listening:
        place = listening.getsockname()
        socket.create_connection(place, timeout=5).close()
        with pytest.raises(UserError, match="Take another --port"):
            listen(*place)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70])
def test_a_host_that_is_elsewhere_or_nowhere_is_no_matter_of_the_port(host: str) -> None:
    with pytest.raises(UserError, match="--host takes") as refused:
        listen(host, 0)
    assert "--port" not in str(refused.value)


def test_a_websocket_is_let_in_no_more_than_any_other(worker: Process) -> None:
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    assert httpx.get(f"{worker.url}/v1/worker", headers=upgrade, trust_env=False).status_code == 401
