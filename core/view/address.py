"""Where a live view is."""

import secrets
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Address:
    """Of a page, with what its buttons need."""

    url: str
    token: str

    @property
    def with_token(self) -> str:
        """The token stands behind the `#`, which browsers keep to themselves.

        >>> Address("http://127.0.0.1:8765/", "a&b").with_token
        'http://127.0.0.1:8765/#token=a%26b'
        """
        return f"{self.url}#token={quote(self.token, safe='')}"


def new_token() -> str:
    """One that nobody guesses."""
    return secrets.token_urlsafe(18)
