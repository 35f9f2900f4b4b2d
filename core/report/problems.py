"""The files that cannot be used, alike ones together."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..config.tables import Config
from ..data.sets import header_cache
from ..errors import DataError
from ..pages.document import Block, Listing, Section, counted
from ..pictures.headers import read_headers
from ..sources.find import find
from ..sources.found import Problem

VARIES = re.compile(r"[0-9]+|'[^']*'|\"[^\"]*\"")
"""What differs between reasons that are alike."""
ALIKE = 3
"""So many problems of one kind are put together."""


def problem_section(problems: Iterable[Problem]) -> Section:
    """All of them, those of one kind under one heading."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(VARIES.sub("…", problem.reason), []).append(problem)
    blocks: list[Block] = []
    single: list[str] = []
    for kind, members in sorted(kinds.items(), key=lambda entry: -len(entry[1])):
        if len(members) < ALIKE:
            single += [str(problem) for problem in members]
            continue
        reasons = {problem.reason for problem in members}
        title = f"{counted(len(members), 'file')}: {reasons.pop() if len(reasons) == 1 else kind}"
        alike = all(problem.reason == members[0].reason for problem in members)
        blocks.append(Listing(title=title, lines=tuple(str(each.path if alike else each) for each in members)))
    if single:
        title = "Each for a reason of its own" if blocks else counted(len(single), "file")
        blocks.append(Listing(title=title, lines=tuple(single)))
    return Section(title="Set aside", blocks=tuple(blocks) or ("Every picture can be used.",))


def list_problems(config: Config) -> tuple[Problem, ...]:
    """What is wrong with the files of `data.root`, for when that is too much to train; empty when they cannot be listed."""
    problems: list[Problem] = []

    def paths() -> Iterator[Path]:
        for found in find(config.data):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                asked.append(found.path)
                yield found.path

    asked: list[Path] = []
    cache = header_cache(config)
    try:
        headers = read_headers(paths(), check=config.data.check, hashes=False, cache=cache)
        for number, header in enumerate(headers):
            if isinstance(header, str):
                problems.append(Problem(path=asked[number], reason=header))
    except DataError:
        return ()
    finally:
        cache.close()
    return tuple(problems)
