"""Row F42: one of several processes is killed within a save, or where it waits for another."""

from collections.abc import Callable
from functools import partial

from .bench import Bench, Workspace
from .injectors import kill_at_call, on_call, record_calls
from .on_disk import whole_steps
from .plugins_for_processes import kill
from .processes import begin_ranks, wait_for_group
from .rows import row
from .rows_processes import LEAN, SECONDS, assert_goes_on, assert_good_end, undisturbed

SAVES = (*LEAN, "checkpoint.keep=1")
BOARD = ("read", "post", "contribute")
"""What every wait for another rank is made of, and every word to it."""
DIVIDED = (*SAVES, "distributed.strategy='fsdp'")
PARTS_OF_A_SAVE = ("save", "Parts._exchange", "Parts._look_at_own", "Parts._write_together")
TELLING = ("rename", "unlink", "fsync")
EACH = {"cut": 0, "short": 8, "long": 1 << 30}
"""How many of each kind of call are tried, evenly spread."""


@row("F42", "one of several processes ends within a save", cut=5, short=40, long=400)
def ended_within_a_save(bench: Bench) -> None:
    """A checkpoint is absent or complete, whichever rank is killed at whichever call, and the run ends with the same bits."""
    undisturbed(bench, *SAVES)
    calls, looks = recorded(bench)
    trials: dict[str, Callable[[Bench], None]] = {}
    numbers = spread_out(len(calls), EACH[bench.size]) or [first(calls, name) for name in TELLING]
    for number in numbers:
        trials[f"rank 0 at call {number}, {calls[number - 1]}"] = partial(killed, 0, partial(at_file_call, number))
    for rank in (0, 1):
        for number in spread_out(looks[rank], EACH[bench.size]) or ([looks[1] // 2] if rank else []):
            trials[f"rank {rank} at board call {number}"] = partial(killed, rank, partial(at_board_call, number))
    bench.spread(trials | divided(bench))


def divided(bench: Bench) -> dict[str, Callable[[Bench], None]]:
    """Where weights are divided, each rank writes its part of a checkpoint: it is killed before it begins, amid it, and after."""
    undisturbed(bench, *DIVIDED)
    places = [(rank, place) for place in PARTS_OF_A_SAVE for rank in (1, 0)]
    return {
        f"rank {rank} at {place}, divided": partial(killed, rank, partial(at_part, place), settings=DIVIDED)
        for rank, place in places[: {"cut": 1, "short": 4, "long": len(places)}[bench.size]]
    }


def recorded(bench: Bench) -> tuple[list[str], list[int]]:
    """The calls of a run's saves on the file system, and how many each rank makes to the board until it has saved twice."""
    work = bench.workspace(*SAVES)
    files, folder = work.path / "files", work.run / "checkpoints"

    def inject(rank: int) -> None:
        if rank == 0:
            record_calls(folder, files)
        count_board_calls(lambda number: (work.path / f"board-{rank}").write_text(str(number)))

    ended = wait_for_group(begin_ranks(bench, work, "train.steps=4", inject=inject))
    assert ended.code == 0, ended.output
    return files.read_text().splitlines(), [int((work.path / f"board-{rank}").read_text()) for rank in (0, 1)]


def count_board_calls(told: Callable[[int], object]) -> None:
    """`told` is called with the number of each, from 1, before it is made."""
    numbers = iter(range(1, 1 << 30))
    for name in BOARD:
        on_call(f"core.ranks.board:Board.{name}", lambda _: told(next(numbers)))


def killed(rank: int, arrange: Callable[[Workspace], None], bench: Bench, settings: tuple[str, ...] = SAVES) -> None:
    work = bench.workspace(*settings)
    ended = wait_for_group(begin_ranks(bench, work, inject=lambda one: arrange(work) if one == rank else None))
    assert_good_end(work, ended, 8, f"rank {rank} was killed by SIGKILL")
    assert ended.ended.seconds <= LIMIT, f"it took {ended.ended.seconds:.1f} s until all were gone:\n{ended.output}"
    bench.notes["checkpoints that were kept"] += len(whole_steps(work))
    assert_goes_on(work, bench, *settings)


LIMIT = SECONDS + 10.0
"""For start, training and end."""


def at_file_call(number: int, work: Workspace) -> None:
    kill_at_call(work.run / "checkpoints", number)


def at_board_call(number: int, work: Workspace) -> None:
    count_board_calls(lambda count: kill() if count == number else None)


def at_part(place: str, work: Workspace) -> None:
    """In the second save."""
    calls = 1 + 2 * (place.count("_exchange"))
    on_call(f"core.checkpoint.parts:{place}", lambda count: kill() if count == 1 + calls else None)


def first(calls: list[str], name: str) -> int:
    """The number of the first call of this name in the last save of all, which replaces one."""
    return len(calls) - next(place for place, call in enumerate(reversed(calls)) if call.startswith(name))


def spread_out(count: int, wanted: int) -> list[int]:
    """So many of the numbers from 1 to `count`, evenly spread, or all of them."""
    if wanted >= count:
        return list(range(1, count + 1))
    return sorted({1 + place * (count - 1) // (wanted - 1) for place in range(wanted)}) if wanted > 1 else []
