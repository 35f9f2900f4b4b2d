"""From sources to items: every readable picture as a row of the table, every other file by name and reason."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from events.payloads import Item

from ..config import DataTable
from ..errors import DataError
from ..pictures.files import CONTENT_BYTES
from ..pictures.headers import Header, HeaderCache, read_headers
from ..pictures.images import EXTENSIONS
from ..sources.find import find
from ..sources.found import Found, Problem
from ..sources.layers import settings_in_use
from .table import ItemTable

SHOWN = 20
"""Problems that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What the sources of one data set hold."""

    items: ItemTable
    problems: tuple[Problem, ...]
    uses: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By setting that only a plugin can put into effect: how many items have it, and one of them."""


def scan(
    data: DataTable,
    cache: HeaderCache,
    *,
    roots: Sequence[Path] | None = None,
    names: Sequence[str] | None = None,
    hashes: bool = True,
) -> Scan:
    """Every picture of the data's roots, or of other `roots` under given names, in the order of their ids.

    `hashes` has each file's bytes read once, unless data.check does that anyway.

    Raises DataError when there is none, or when more than data.max_bad_fraction of the files cannot be used.
    """
    problems: list[Problem] = []
    uses: dict[str, tuple[int, str]] = {}
    contents: deque[bytes] = deque()

    def items() -> Iterator[Item]:
        for found, header in _with_headers(data, cache, roots, names, problems.append, hashes):
            for name in settings_in_use(found):
                count, example = uses.get(name, (0, found.id))
                uses[name] = (count + 1, example)
            contents.append(_content(found, header, cache))
            yield Item(
                id=found.id, path=found.path, caption=found.caption, caption_from=found.caption_from,
                mask=found.mask if found.mask != "alpha" or header.alpha else "", settings=found.settings,
                width=header.width, height=header.height,
            )  # fmt: skip

    table = ItemTable.of(items(), _drain(contents))
    where = ", ".join(str(root) for root in (data.roots if roots is None else roots))
    if not table and not problems:
        raise DataError(f"data.root: no picture in {where}; looked for {' '.join(sorted(EXTENSIONS))}")
    total = len(table) + len(problems)
    if not table or len(problems) > data.max_bad_fraction * total:
        listed = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        rest = f"\n  and {len(problems) - SHOWN} more; `python run.py data` lists all" if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems)} of {total} files in {where} cannot be used, more than data.max_bad_fraction ="
            f" {data.max_bad_fraction} allows:{listed}{rest}"
        )
    return Scan(items=table, problems=tuple(problems), uses=uses)


def _with_headers(
    data: DataTable,
    cache: HeaderCache,
    roots: Sequence[Path] | None,
    names: Sequence[str] | None,
    tell: Callable[[Problem], None],
    hashes: bool,
) -> Iterator[tuple[Found, Header]]:
    """Each picture with its header; the reading runs ahead of what is asked for."""
    waiting: deque[Found] = deque()

    def paths() -> Iterator[Path]:
        for found in find(data, roots=roots, names=names):
            if isinstance(found, Problem):
                tell(found)
                continue
            waiting.append(found)
            yield found.path

    for header in read_headers(paths(), check=data.check, hashes=hashes, cache=cache):
        found = waiting.popleft()
        if isinstance(header, str):
            tell(Problem(path=found.path, reason=header))
        else:
            yield found, header


def _content(found: Found, header: Header, cache: HeaderCache) -> bytes:
    """Of the picture's bytes, and of its mask's where that is a file of its own."""
    if not isinstance(found.mask, Path):
        return header.content
    mask = next(iter(read_headers([found.mask], check="headers", hashes=True, cache=cache)))
    if isinstance(mask, str):
        raise DataError(f"{found.mask}: the mask of {found.path} cannot be read: {mask}")
    return blake2b(header.content + mask.content, digest_size=CONTENT_BYTES).digest()


def _drain(waiting: deque[bytes]) -> Iterator[bytes]:
    """One for each item that was made, as it is made."""
    while True:
        yield waiting.popleft()
