"""The pictures of a round of previews, rendered by all ranks, batch by batch in turn, and brought to the main one.

A batch is rendered as a whole by one rank, so that its pictures are those of a run with one process. They travel as PNG,
which loses nothing.
"""

import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Protocol

from PIL import Image

from events.errors import PluginError
from events.payloads import Prompt

from ..errors import LostRankError, OtherRankError
from ..ranks.crew import Crew
from ..ranks.divided import Divided

log = logging.getLogger("signalbox.preview")
FRAME = struct.Struct("<II")
"""Before each picture on its way: its place among the prompts, and the length of its PNG in bytes."""
QUICK = 1
"""PNG's level of compression for pictures that are decoded at once."""
Places = Sequence[int]
"""Of prompts."""


class Renderer(Protocol):
    """The part of `LiveSampler` that is needed here."""

    def batches_of(self, prompts: tuple[Prompt, ...]) -> list[Places]: ...

    def render_batches(self, prompts: tuple[Prompt, ...], batches: Iterable[Places]) -> dict[int, Image.Image]: ...


class RenderingFailed(Exception):
    """A rank could not render its part."""

    def __init__(self, said: str, own: Exception | None) -> None:
        super().__init__(said)
        self.own = own
        """What kept this rank from it; another's log has what kept that one."""


def render_by_all(
    crew: Crew, renderer: Renderer, prompts: tuple[Prompt, ...], *, begin: Callable[[], None], lockstep: bool = False
) -> list[Image.Image]:
    """One picture a prompt on the main rank, none on others; waits for the device and for the other ranks.

    `begin` comes first, on each rank. `lockstep`: every forward is an exchange between ranks, so each renders all, and
    none starts before all have begun.
    Raises RenderingFailed where any rank could not render, and whatever ends a rank.
    """
    work, batches = Divided(crew, "rendering of the previews", lockstep=lockstep), renderer.batches_of(prompts)
    own = batches if lockstep else batches[crew.rank :: crew.count]
    log.debug("%d of %d batches of the previews are rendered here", len(own), len(batches))
    pictures: dict[int, Image.Image] = {}
    failures: list[Exception] = []

    def attempt(*parts: Callable[[], None]) -> str:
        try:
            with crew.told():
                for part in parts:
                    part()
        except (PluginError, OtherRankError, LostRankError):
            raise
        except Exception as error:
            failures.append(error)
            work.break_off()
        return "".join(f"{type(error).__name__}: {error}" for error in failures)

    def render() -> None:
        pictures.update(renderer.render_batches(prompts, work.over(own)))

    def agree(said: Sequence[str]) -> None:
        for rank, one in enumerate(said):
            if one:
                raise RenderingFailed(f"rank {rank}: {one}", own=failures[0] if failures else None)

    if lockstep:
        agree(crew.outcomes("the start of the previews", attempt(begin)))
    agree(work.results(lambda: attempt(render) if lockstep else attempt(begin, render)))
    pictures |= _brought_to_main(crew, {} if lockstep else pictures)
    return [pictures[place] for place in range(len(prompts))] if crew.is_main else []


def _brought_to_main(crew: Crew, pictures: Mapping[int, Image.Image]) -> dict[int, Image.Image]:
    """Those of the other ranks, which have met before, so that none waits long for another here."""
    if not crew.are_several:
        return {}
    sent = crew.gather_bytes(b"" if crew.is_main else b"".join(_framed(pictures)))
    return dict(pair for one in sent for pair in _unframed(one)) if crew.is_main else {}


def _framed(pictures: Mapping[int, Image.Image]) -> Iterator[bytes]:
    for place, picture in pictures.items():
        png = BytesIO()
        picture.save(png, "PNG", compress_level=QUICK)
        yield FRAME.pack(place, len(png.getvalue())) + png.getvalue()


def _unframed(data: bytes) -> Iterator[tuple[int, Image.Image]]:
    start = 0
    while start < len(data):
        place, length = FRAME.unpack_from(data, start)
        start += FRAME.size + length
        picture = Image.open(BytesIO(data[start - length : start]))
        picture.load()
        yield place, picture
