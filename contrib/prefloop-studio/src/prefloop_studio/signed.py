"""Addresses that only the holder of the token can have been given."""

from __future__ import annotations

import hashlib
import hmac

from attrs import field, frozen


@frozen
class Signer:
    """Signs texts with a token that it does not give away."""

    token: str = field(repr=False)

    def sign(self, text: str) -> str:
        return hmac.new(self.token.encode(), text.encode(), hashlib.sha256).hexdigest()

    def matches(self, text: str, key: str) -> bool:
        return hmac.compare_digest(self.sign(text).encode(), key.encode())
