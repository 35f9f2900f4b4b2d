"""Checkpoints and exports taken elsewhere by a command, beside training."""

import json
import logging
import re
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, Self

from pydantic import Field, model_validator

from core.log.growing_file import rewrite
from core.outside.run_command import run_command
from events import Plugin, PluginSettings, on, transform
from events.control import Control
from events.payloads import CheckpointLoaded, CheckpointSaved, ExportEnd, RetentionContext, RunError, RunInfo, RunStart

log = logging.getLogger("signalbox.plugins")
What = Literal["checkpoints", "exports"]
LOOK_SECONDS = 0.2
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """A folder that is to be taken elsewhere."""

    what: What
    step: int
    path: Path
    run: str

    @property
    def key(self) -> str:
        """What the record calls it."""
        return f"{self.what}/{self.path.name}"


class Upload(Plugin):
    """Run a command for each new checkpoint or export; `{path}`, `{name}`, `{step}` and `{run}` are filled in.

    Training goes on meanwhile. A checkpoint stays until its upload has succeeded or been given up. An upload that fails
    is tried again and told of in the log, and never ends a run. At the end what is left is waited for; what is not done
    then is made up for when the run goes on.
    """

    class Settings(PluginSettings):
        command: tuple[str, ...] = Field(
            min_length=1, description="the program and its arguments, each as it is: no shell"
        )
        what: tuple[What, ...] = Field(("checkpoints",), min_length=1, description="checkpoints, exports, or both")
        timeout_seconds: float = Field(3600.0, gt=0, description="longest time for an attempt")
        retries: int = Field(3, ge=0, description="attempts after one that failed")
        retry_seconds: float = Field(
            10.0, ge=0, description="pause before the second attempt; each next one is twice as long"
        )
        most_waiting: int = Field(4, ge=1, description="uploads that wait at most; then the oldest is left out")
        finish_seconds: float = Field(600.0, ge=0, description="longest wait at the end of the run")

        @model_validator(mode="after")
        def _says_what(self) -> Self:
            if not any("{path}" in word for word in self.command):
                raise ValueError("command: {path} has to stand in one of its words")
            return self

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()
        self._changed = threading.Condition()
        self._noting = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._is_hurried = False
        self._record = Path()
        self._states: dict[str, str] = {}
        """By key: waiting, uploaded or failed. It lies in the run's folder, since it changes between two checkpoints."""

    def check(self) -> Iterator[str]:
        program = self.settings.command[0]
        if shutil.which(program) is None:
            yield f"there is no program {program}, which is to upload"

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        """Take up what an earlier session left."""
        self._control = event.control
        self._record = event.run.folder / "uploads" / f"{self.name}.json"
        self._states = _read(self._record)
        for what in self.settings.what:
            for path in sorted((event.run.folder / what).glob("*step-*")):
                if self._states.get(f"{what}/{path.name}", "uploaded") != "uploaded":
                    self._add(Job(what, int(path.name.rpartition("-")[2]), path, event.run.name))

    @on("checkpoint.saved")
    def take_checkpoint(self, event: CheckpointSaved) -> None:
        self._take("checkpoints", event.step, event.path, event.run)

    @on("checkpoint.loaded")
    def make_up(self, event: CheckpointLoaded) -> None:
        """For one that was saved when nobody lived to hear of it."""
        if f"checkpoints/{event.path.name}" not in self._states:
            self._take("checkpoints", event.step, event.path, event.run)

    @on("export.end")
    def take_export(self, event: ExportEnd) -> None:
        if event.path is not None:
            self._take("exports", event.step, event.path, event.run)

    @transform("checkpoint.retention")
    def retain(self, going: tuple[int, ...], context: RetentionContext) -> tuple[int, ...]:
        """What is being uploaded, or waits for it, stays."""
        needed = {job.step for job in self._left() if job.what == "checkpoints"}
        return tuple(step for step in going if step not in needed)

    @on("run.error")
    def hurry(self, event: RunError) -> None:
        self._is_hurried = isinstance(event.error, KeyboardInterrupt)

    def close(self) -> None:
        """Wait for what is left, within bounds; Ctrl-C ends the wait."""
        if self._thread is None:
            return
        if self._left() and not self._is_hurried:
            with suppress(KeyboardInterrupt):
                self._wait()
        self._ended.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(END_SECONDS)
        self._thread = None
        for job in self._left():
            log.warning("%s: not uploaded: %s", self.name, job.path)

    def _take(self, what: What, step: int, path: Path, run: RunInfo) -> None:
        if what in self.settings.what:
            self._add(Job(what, step, path, run.name))

    def _add(self, job: Job) -> None:
        with self._changed:
            self._waiting.append(job)
            left_out = self._waiting.popleft() if len(self._waiting) > self.settings.most_waiting else None
            self._changed.notify_all()
        if left_out is not None:
            log.warning("%s: uploads are too slow; %s is left out", self.name, left_out.path)
            self._note(left_out, "failed")
        self._note(job, "waiting")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="signalbox-upload", daemon=True)
            self._thread.start()

    def _left(self) -> list[Job]:
        """What is not done, the one at work first."""
        with self._changed:
            return [*([self._running] if self._running else []), *self._waiting]

    def _wait(self) -> None:
        seconds = self.settings.finish_seconds
        log.info("%s: waiting up to %.0f s for %d uploads; Ctrl-C leaves them", self.name, seconds, len(self._left()))
        until = monotonic() + seconds
        self._control.take("stop")  # which came when the run was over already
        with self._changed:
            while (self._running or self._waiting) and monotonic() < until and not self._control.is_asked("stop"):
                self._changed.wait(LOOK_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended.is_set())
                if self._ended.is_set():
                    return
                job = self._running = self._waiting.popleft()
            is_uploaded = self._try(job)
            if self._ended.is_set() and not is_uploaded:
                return  # it still waits, for another session
            self._note(job, "uploaded" if is_uploaded else "failed")
            with self._changed:
                self._running = None
                self._changed.notify_all()

    def _try(self, job: Job) -> bool:
        """Whether one of the attempts succeeded."""
        pause, begun = self.settings.retry_seconds, monotonic()
        for further in range(self.settings.retries, -1, -1):
            if not job.path.exists():
                log.warning("%s: %s is gone before it was uploaded", self.name, job.path)
                return False
            ended = run_command(self._command(job), timeout_seconds=self.settings.timeout_seconds, ended=self._ended)
            if not ended.why:
                log.info("%s: uploaded %s in %.1f s", self.name, job.path, monotonic() - begun)
                return True
            then = f"next attempt in {pause:g} s" if further else "given up"
            said = f"\n{ended.last_lines}" if ended.last_lines else ""
            log.warning("%s: the upload of %s failed: %s; %s%s", self.name, job.path, ended.why, then, said)
            if not further or self._ended.wait(pause):
                return False
            pause *= 2
        return False

    def _command(self, job: Job) -> list[str]:
        """With its places filled in, each once: what is filled in is not looked at again."""
        filled = {"path": str(job.path.absolute()), "name": job.path.name, "step": str(job.step), "run": job.run}
        places = re.compile("{(" + "|".join(filled) + ")}")
        return [places.sub(lambda found: filled[found[1]], word) for word in self.settings.command]

    def _note(self, job: Job, state: Literal["waiting", "uploaded", "failed"]) -> None:
        """Any thread may call it."""
        with self._noting:
            self._states[job.key] = state
            try:
                self._record.parent.mkdir(exist_ok=True)
                rewrite(self._record, json.dumps(self._states, indent=1))
            except OSError as error:
                log.warning("%s: %s could not be written: %s", self.name, self._record, error)


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, AttributeError):
        return {str(key): str(state) for key, state in json.loads(path.read_text(encoding="utf-8")).items()}
    return {}
