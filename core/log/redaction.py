"""Secrets are kept out of whatever a run writes: log lines, configs, metadata, what an error says.

What counts as one: the value of a key, or of an environment variable, whose last word says so; what has the shape of a
known service's token; the user-info of a URL, its query, and in the config all of a URL behind its host, since that is
where the addresses of webhooks hold their secret.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REDACTED = "[redacted]"
SECRET_WORDS = frozenset({"token", "key", "secret", "password", "passwd", "passphrase", "authorization", "credentials"})
NO_SECRETS = frozenset(
    {
        "bos",
        "eos",
        "unk",
        "sep",
        "pad",
        "cls",
        "mask",
        "image",
        "memory",
        "keep",
        "special",
        "added",
        "new",
    }  # of models
    | {"instance", "class", "placeholder", "initializer", "trigger", "start", "end"}  # of words to train
    | {"caption", "text", "sort", "primary", "public", "state", "cache"}  # of tables
)
"""What may stand before the last word of names that mean another thing, such as `cls_token`."""
LEAST = 8
"""Characters of a value that is looked for in free text; shorter ones would hit other words."""
LEAST_SEGMENT = 16
"""Likewise of a single part of a URL's path."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SHAPES = re.compile(
    r"\b(?:(?:hf_|gh[pousr]_)[A-Za-z0-9]{16,}"
    r"|(?:sk-|github_pat_|glpat-|xox[abpr]-)(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,})"
)
_REST = r"[^\s\"'<>\\&#@,}]+"
_USER_INFO = re.compile(r"(?P<before>://)[^\s\"'<>\\/@]+@")
_QUERY = re.compile(
    r"(?P<before>[?&;][\w.-]*(?:" + "|".join(sorted(SECRET_WORDS)) + r"|signature|sig)=)" + _REST, re.IGNORECASE
)
_HEADER = re.compile(
    r"(?P<before>\bauthorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:bearer|basic|token)\s+)?" + _REST, re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes the secrets that it knows, and whatever looks like one, out of texts and trees."""

    secrets: tuple[str, ...] = ()
    """Literals, the longest first."""

    @classmethod
    def of(cls, tree: Mapping[str, Any], environ: Mapping[str, str]) -> "Redactor":
        """Of a config's tree, plugins included, and of the environment, whose variables keys such as `url_env` name."""
        named = {name for key, name in _strings("", tree) if key.endswith("_env")}
        found = {value for name, value in environ.items() if is_secret_name(name) or name in named}
        found |= {value for key, value in _strings("", tree) if is_secret_name(key)}
        addresses = [value for _, value in _strings("", tree)] + [environ[name] for name in named & set(environ)]
        found |= {part for value in addresses if is_web_address(value) for part in _in_address(value)}
        written = {form for value in found if len(value) >= LEAST for form in _forms(value)}
        return cls(tuple(sorted(written, key=lambda value: (-len(value), value))))

    def text(self, text: str) -> str:
        """With `[redacted]` for each secret."""
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        text = _SHAPES.sub(REDACTED, text)
        for pattern in (_USER_INFO, _QUERY, _HEADER):
            text = pattern.sub(lambda match: match["before"] + REDACTED + "@" * match[0].endswith("@"), text)
        return text

    def tree(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The same keys, with `[redacted]` for strings that are secret by their key and within all others."""
        return {key: self._value(key, value) for key, value in tree.items()}

    def _value(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.tree(value)
        if isinstance(value, list | tuple):
            return [self._value(key, member) for member in value]
        if not isinstance(value, str):
            return self._thing(value)
        if is_secret_name(key) and value:
            return REDACTED
        return self.text(_without_path(value) if is_web_address(value) else value)

    def _thing(self, value: Any) -> Any:
        """A value of any other kind, as text where that holds a secret."""
        if value is None or isinstance(value, bool | int | float):
            return value
        said = str(value)
        return value if (redacted := self.text(said)) == said else redacted


BY_LOOKS = Redactor()
"""Knows no secret, and takes out what looks like one."""


def is_secret_name(name: str) -> bool:
    """Whether the value of a key or variable of this name is a secret.

    >>> [is_secret_name(name) for name in ("api_key", "HF_TOKEN", "X-Api-Key", "apiKey", "Authorization")]
    [True, True, True, True, True]
    >>> [is_secret_name(name) for name in ("use_cls_token", "num_memory_tokens", "keep_tags", "unkeyed", "key_path")]
    [False, False, False, False, False]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(words) and words[-1] in SECRET_WORDS and not NO_SECRETS.intersection(words[-2:-1])


def is_web_address(value: str) -> bool:
    return value.lower().startswith(("http://", "https://"))


def _without_path(url: str) -> str:
    """Scheme and host of a URL; what follows them is secret where there is anything."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    host = parts.netloc.rpartition("@")[2]
    user = f"{REDACTED}@" if "@" in parts.netloc else ""
    rest = f"/{REDACTED}" if parts.path.strip("/") or parts.query or parts.fragment else parts.path
    return f"{parts.scheme}://{user}{host}{rest}"


def _strings(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a tree, with the key that it is under."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _strings(name, member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _strings(key, member)
    elif isinstance(value, str):
        yield key, value


def _in_address(url: str) -> Iterator[str]:
    """User and password, everything behind the host, the values of the query, and long parts of the path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    user_info = parts.netloc.rpartition("@")[0]
    yield from (user_info, *user_info.split(":"))
    yield url.partition(parts.netloc)[2]
    yield from (part for part in parts.path.split("/") if len(part) >= LEAST_SEGMENT)
    yield from (value for _, value in parse_qsl(parts.query))
    yield from (parts.query, parts.fragment)


def _forms(value: str) -> Sequence[str]:
    """As a value stands in plain text, in JSON and TOML, in what repr gives, and in a URL."""
    return (
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        quote(value),
        quote(value, safe=""),
        unquote(value),
    )
