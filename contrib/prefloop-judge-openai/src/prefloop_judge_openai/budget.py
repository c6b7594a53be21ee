"""What a judge may still spend. One budget lasts as long as its judge: a whole run."""

from __future__ import annotations

from attrs import define


class BudgetSpentError(Exception):
    """The next request would exceed the budget."""


@define
class Budget:
    """Counts requests and tokens. A limit of None is no limit.

    A request reserves an estimate of its tokens before it is sent, and settles for what the server
    reports; where no report comes (a timeout, a server that does not count), the estimate stands.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0

    def reserve(self, estimate: int) -> None:
        """Count one request of about `estimate` tokens. Raises `BudgetSpentError` where none is left."""
        if self.max_requests is not None and self.requests + 1 > self.max_requests:
            raise BudgetSpentError(f"all {self.max_requests} requests of 'max_requests' are made")
        if self.max_tokens is not None and self.tokens + estimate > self.max_tokens:
            raise BudgetSpentError(
                f"{self.tokens} tokens of 'max_tokens_total' {self.max_tokens} are spent, "
                f"and the next request may take {estimate}"
            )
        self.requests += 1
        self.tokens += estimate

    def settle(self, estimate: int, actual: int | None) -> None:
        """Put the server's count in the place of the estimate."""
        if actual is not None:
            self.tokens += actual - estimate
