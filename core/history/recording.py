"""What a run writes of itself for those who look at it later, without secrets; a disk that refuses it is no reason to stop."""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from events.bus import Bus
from events.payloads import Prompt

from ..attached.facts import plugin_facts
from ..log.redaction import Redactor
from .facts import (
    DATA,
    PLAN,
    RECORD,
    ROUND,
    SESSION,
    Data,
    Handler,
    HandlerTime,
    Picture,
    Plan,
    PlannedSignal,
    PluginFacts,
    Round,
    Session,
)

if TYPE_CHECKING:
    from ..timing.spent import Kind

log = logging.getLogger("signalbox.run")
PACKAGES = ("signalbox", "torch", "diffusers", "transformers", "accelerate", "peft")
MOST_PROBLEMS = 200
"""Lines of files that were set aside which are kept."""


class Recorder:
    """Writes the record of one session."""

    def __init__(
        self, run: Path, *, bus: Bus, redactor: Redactor, command: Sequence[str] = (), beside: Path | None = None
    ) -> None:
        """`command` is what goes on with the run, `beside` the folder of its config's file."""
        self._folder = run / RECORD
        self._bus = bus
        self._redactor = redactor
        self._session = Session(
            status="running", run=run.name, pid=os.getpid(), began=_now(), steps=0, directory=str(Path.cwd()),
            beside="" if beside is None else str(beside), command=tuple(command), versions=versions(),
        )  # fmt: skip

    def begin(self, *, first_step: int, steps: int) -> None:
        """A session begins; `steps` are those of the whole run."""
        plugins = tuple(PluginFacts.model_validate(facts) for facts in plugin_facts(self._bus))
        self._session = self._session.model_copy(
            update={"first_step": first_step, "step": first_step, "steps": steps, "plugins": plugins}
        )
        self._write(SESSION, self._session)
        self._write(PLAN, planned(self._bus))

    def data(self, *, items: int, without_caption: int, buckets: Mapping[tuple[int, int], int],
             problems: Sequence[object], validation: Mapping[str, int]) -> None:  # fmt: skip
        """What it trains on; `buckets` by (width, height) in pixels."""
        sizes = {f"{width}x{height}": count for (width, height), count in buckets.items()}
        shown = tuple(str(problem) for problem in problems[:MOST_PROBLEMS])
        self._write(
            DATA,
            Data(items=items, without_caption=without_caption, buckets=sizes, problems=shown, set_aside=len(problems),
                 validation=dict(validation)),
        )  # fmt: skip

    def end(self, *, step: int, seconds: "Mapping[Kind, float]", reason: str = "", error: BaseException | None = None,
            stage: str = "", exit_code: int = 0) -> None:  # fmt: skip
        """The session is over: complete, stopped for `reason`, or failed with `error` in `stage`."""
        if error is not None:
            status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        else:
            status = "complete" if reason == "complete" else "stopped"
        ended: dict[str, Any] = {
            "status": status, "ended": _now(), "step": step, "reason": reason, "stage": stage, "exit_code": exit_code,
            "error": "" if error is None else f"{type(error).__name__}: {error}".strip(": "),
            "seconds": {kind: round(spent, 3) for kind, spent in seconds.items()},
            "times": tuple(handler_times(self._bus)),
        }  # fmt: skip
        self._session = self._session.model_copy(update=ended)
        self._write(SESSION, self._session)

    def _write(self, name: str, facts: BaseModel) -> None:
        write_facts(self._folder / name, facts, self._redactor)


def planned(bus: Bus) -> Plan:
    """The compiled plan: signals that are handled, in firing order."""
    return Plan(
        signals=tuple(
            PlannedSignal(
                name=signal.name, kind=signal.spec.kind, where=signal.spec.where,
                handlers=tuple(
                    Handler(plugin=one.plugin, handler=one.label, priority=one.priority, is_async=one.is_async,
                            ranks=one.ranks, source=one.source)
                    for one in signal.planned
                ),
            )
            for signal in bus.signals
            if signal.planned
        )
    )  # fmt: skip


def handler_times(bus: Bus) -> Iterable[HandlerTime]:
    """What each handler that was called has cost so far, the dearest first."""
    called = [(key, tally) for key, tally in [*bus.tallies.items()] if tally.calls]
    for (plugin, signal, label), tally in sorted(called, key=lambda entry: -entry[1].seconds):
        yield HandlerTime(
            plugin=plugin, signal=signal, handler=label, where=bus.where(signal), calls=tally.calls,
            seconds=round(tally.seconds, 6), slowest_seconds=round(tally.slowest_seconds, 6),
        )  # fmt: skip


def write_round(folder: Path, *, step: int, reason: str, prompts: Sequence[Prompt], paths: Sequence[Path]) -> None:
    """What the pictures in a folder of previews show; fewer paths than prompts where rendering failed."""
    pictures = tuple(
        Picture(file=path.name, **asdict(prompt)) for prompt, path in zip(prompts, paths, strict=False)
    )  # fmt: skip
    write_facts(folder / ROUND, Round(step=step, reason=reason, pictures=pictures), Redactor())


def write_facts(path: Path, facts: BaseModel, redactor: Redactor) -> None:
    """Replace a file as a whole. A disk that does not take it is told of in the log, and that is all."""
    clean = type(facts).model_validate(redactor.tree(facts.model_dump(mode="json")))
    name = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        text = json.dumps(clean.model_dump(mode="json"), indent=1, ensure_ascii=False)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", errors="replace"))  # names of files may hold what no text does
        os.replace(name, path)
    except OSError as error:
        log.warning("%s could not be written: %s", path, error)
        with suppress(OSError):
            os.unlink(name)


def versions() -> dict[str, str]:
    """Of the packages that a run depends on."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
