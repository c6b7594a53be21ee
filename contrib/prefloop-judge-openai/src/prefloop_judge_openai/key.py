"""The server's key: read from the environment, given to the client, shown to nobody."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from prefloop import UserError

USUAL_NAME = "OPENAI_API_KEY"
HIDDEN = "[key]"


class Key:
    """A secret text. Its ``repr`` and ``str`` do not show it; pickling it is an error."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    @classmethod
    def from_environment(cls, name: str | None, base_url: str) -> Key:
        """The key in the variable `name`; an empty one where the variable is not set.

        Raises `UserError` where the text can be no key, or where the usual key would travel unencrypted
        to another machine. No message shows the key.
        """
        value = os.environ.get(name, "").strip() if name else ""
        if not re.fullmatch(r"[!-~]*", value):
            raise UserError(
                f"api_key_env: what {name} holds is no key: it has a space or a non-ASCII letter."
            )
        if value and name == USUAL_NAME and not (base_url.startswith("https:") or is_loopback(base_url)):
            raise UserError(
                f"base_url: the key in {name} would travel unencrypted to {urlsplit(base_url).hostname}. "
                "Use https, or set 'api_key_env' to the variable that holds this server's own key, "
                "or to null where it needs none."
            )
        return cls(value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"Key({HIDDEN if self._value else ''})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key is not to be pickled")

    def reveal(self) -> str:
        """The key itself, for the client alone. The client wants some text even where there is none."""
        return self._value or "none"

    def hide(self, text: str) -> str:
        """`text` without the key in it: a server may send back what it was given."""
        return text.replace(self._value, HIDDEN) if self._value else text


def is_loopback(base_url: str) -> bool:
    """Whether the server is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
