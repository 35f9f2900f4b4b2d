"""From sources to items: every readable picture as a row of the table, every other file by name and reason."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from events.payloads import Item, Mask

from ..config.tables import DataTable
from ..errors import DataError
from ..invocation import typed
from ..pictures.facts import FileFacts, facts_of
from ..pictures.headers import Examined, Header, HeaderCache, examine_files
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

    Raises DataError when there is none, or when more of the files cannot be used than data.on_bad and
    data.max_bad_fraction allow.
    """
    problems: list[Problem] = []
    uses: dict[str, tuple[int, str]] = {}
    facts: deque[FileFacts] = deque()

    def items() -> Iterator[Item]:
        for found, header, known in _with_headers(data, cache, roots, names, problems.append, hashes):
            for name in settings_in_use(found):
                count, example = uses.get(name, (0, found.id))
                uses[name] = (count + 1, example)
            facts.append(known)
            yield Item(
                id=found.id, path=found.path, caption=found.caption, caption_from=found.caption_from,
                mask=found.mask if found.mask != "alpha" or header.alpha else "", settings=found.settings,
                width=header.width, height=header.height,
            )  # fmt: skip

    table = ItemTable.of(items(), _drain(facts))
    where = ", ".join(str(root) for root in (data.roots if roots is None else roots))
    if not table and not problems:
        raise DataError(f"data.root: no picture in {where}; looked for {' '.join(sorted(EXTENSIONS))}")
    total = len(table) + len(problems)
    if not table or len(problems) > data.most_bad * total:
        listed = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        rest = f"\n  and {len(problems) - SHOWN} more; `{typed('data')}` lists all" if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems)} of {total} files in {where} cannot be used, more than {data.bad_key} allows:{listed}{rest}"
        )
    return Scan(items=table, problems=tuple(problems), uses=uses)


def _with_headers(
    data: DataTable,
    cache: HeaderCache,
    roots: Sequence[Path] | None,
    names: Sequence[str] | None,
    tell: Callable[[Problem], None],
    hashes: bool,
) -> Iterator[tuple[Found, Header, FileFacts]]:
    """Each picture with its header and what is known of its files; the reading runs ahead of what is asked for."""
    waiting: deque[Found] = deque()

    def paths() -> Iterator[Path]:
        for found in find(data, roots=roots, names=names):
            if isinstance(found, Problem):
                tell(found)
                continue
            waiting.append(found)
            yield found.path

    for picture in examine_files(paths(), check=data.check, hashes=hashes, cache=cache):
        found = waiting.popleft()
        facts = _facts(
            picture, found.mask, lambda mask: examine_files([mask], check=data.check, hashes=hashes, cache=cache)
        )
        if isinstance(picture.result, str) or isinstance(facts, str):
            tell(Problem(path=found.path, reason=str(facts)))
        else:
            yield found, picture.result, facts


def facts_of_item(item: Item, data: DataTable, cache: HeaderCache, *, hashes: bool) -> FileFacts:
    """What is known of the files of an item that no scan has found; nothing where they cannot be read."""

    def look(path: Path) -> Iterator[Examined]:
        return examine_files([path], check=data.check, hashes=hashes, cache=cache)

    facts = _facts(next(look(item.path)), item.mask, look)
    return FileFacts() if isinstance(facts, str) else facts


def _facts(picture: Examined, mask: Mask, look: Callable[[Path], Iterator[Examined]]) -> FileFacts | str:
    """Of a picture, and of its mask where that is a file of its own; or why one of them cannot be used."""
    if isinstance(picture.result, str):
        return picture.result
    if not isinstance(mask, Path):
        return facts_of([picture.status], [picture.result.content])
    beside = next(look(mask))
    if isinstance(beside.result, str):
        return f"its mask {mask} {beside.result}"
    return facts_of([picture.status, beside.status], [picture.result.content, beside.result.content])


def _drain(waiting: deque[FileFacts]) -> Iterator[FileFacts]:
    """One for each item that was made, as it is made."""
    while True:
        yield waiting.popleft()
