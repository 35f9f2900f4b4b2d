"""Curves, validation losses and previews for Weights & Biases, told by a thread of its own."""

import importlib.util
import json
import logging
import os
import secrets
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from pydantic import Field

from core.log.growing_file import rewrite
from core.log.redaction import Redactor
from events import Plugin, PluginSettings, on
from events.control import Control
from events.disk import OncePerMinute
from events.payloads import MetricsReady, PreviewEnd, RunError, RunStart, ValidationEnd

log = logging.getLogger("signalbox.plugins")
RECORD = "signalbox.json"
"""In the folder `wandb` of a run: its id there, and the last step that was told of each kind."""
INIT_SECONDS = 30.0
"""How long the server may take to answer at the start, before the run goes on offline."""
MOST_WAITING = 10_000
"""What waits while the server is asked; then the newest is left out."""
Kind = Literal["metrics", "validation", "previews"]
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
"""Variables of the library: it writes to no terminal of ours, and sends its own failures nowhere."""


class WeightsAndBiases(Plugin):
    """Tell each report, validation loss and preview round to a Weights & Biases run of the same name.

    Offline, the default, it is written to `<run>/wandb`, and ``wandb sync`` sends it. A resumed run goes on with the
    same one, and a step is told once: what is taken anew after a resume is not told again. Training never waits; when
    the server cannot be reached the run goes on offline. The config is sent without secrets.
    """

    class Settings(PluginSettings):
        mode: Literal["online", "offline", "disabled"] = Field(
            "offline", description="online sends to the server while training; disabled does nothing at all"
        )
        project: str = Field("signalbox", min_length=1, description="the project there")
        entity: str = Field("", description="the user or team there; your default one when left out")
        tags: tuple[str, ...] = Field((), description="labels of the run there")
        previews: bool = Field(True, description="also the pictures of each preview round")
        finish_seconds: float = Field(30.0, gt=0, description="longest wait at the end for what is not sent yet")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        """Raises ModuleNotFoundError when wandb is not installed."""
        super().__init__(settings, name=name)
        spec = importlib.util.find_spec("wandb")
        if spec is None or spec.origin is None:  # a folder of that name is no package
            raise ModuleNotFoundError("wandb is not installed; pip install wandb, or leave the plugin out")
        self._teller: _Teller | None = None
        self._exit_code = 0

    def check(self) -> Iterator[str]:
        if self.settings.mode == "online" and not _has_key():
            yield 'there is no key of Weights & Biases; run `wandb login`, or set mode = "offline"'

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        if self.settings.mode == "disabled":
            return
        folder = event.run.folder / "wandb"
        folder.mkdir(exist_ok=True)
        self._teller = _Teller(
            settings=self.settings, run=event.run.name, folder=folder, control=event.control,
            config=Redactor.of(event.config, os.environ).tree(event.config),
        )  # fmt: skip
        self._teller.start()

    @on("metrics.ready")
    def tell(self, event: MetricsReady) -> None:
        self._put("metrics", event.step, {"epoch": event.epoch, **event.values})

    @on("validation.end")
    def tell_validation(self, event: ValidationEnd) -> None:
        if event.losses:
            losses = {f"validation/{name}": loss for name, loss in event.losses.items()}
            self._put("validation", event.step, losses)

    @on("preview.end", priority=95)
    def tell_previews(self, event: PreviewEnd) -> None:
        if self.settings.previews and event.paths:
            shown = zip(event.paths, event.prompts, strict=False)  # fewer paths when rendering failed
            self._put("previews", event.step, {"previews": [(path, prompt.text) for path, prompt in shown]})

    @on("run.error")
    def note_failure(self, event: RunError) -> None:
        self._exit_code = 1

    def close(self) -> None:
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.end(self._exit_code)

    def _put(self, kind: Kind, step: int, values: Mapping[str, Any]) -> None:
        if self._teller is not None:
            self._teller.put(kind, step, values)


@dataclass(slots=True, kw_only=True)
class _Teller:
    """Speaks with the library, which may take its time, in a thread."""

    settings: Any
    run: str
    folder: Path
    control: Control
    config: Mapping[str, Any]
    _told: SimpleQueue[tuple[Kind, int, Mapping[str, Any]] | None] = field(default_factory=SimpleQueue)
    """What waits to be told; None is the last."""
    _thread: threading.Thread | None = None
    _record: dict[str, Any] = field(default_factory=dict)
    _exit_code: int = 0
    _failures: OncePerMinute = field(default_factory=OncePerMinute)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="signalbox-wandb", daemon=True)
        self._thread.start()

    def put(self, kind: Kind, step: int, values: Mapping[str, Any]) -> None:
        """Hand over, without waiting."""
        if self._told.qsize() < MOST_WAITING:
            self._told.put((kind, step, values))
        elif self._failures.is_due("room"):
            log.warning("Weights & Biases takes nothing; what comes is left out%s", self._failures.times("room"))

    def end(self, exit_code: int) -> None:
        """Wait for what was handed over, within bounds."""
        self._exit_code = exit_code
        self._told.put(None)
        with suppress(KeyboardInterrupt):
            if self._thread is not None:
                self._thread.join(INIT_SECONDS + self.settings.finish_seconds)
        if self._thread is not None and self._thread.is_alive():
            log.warning("Weights & Biases is not done; `wandb sync %s` sends what is missing", self.folder)

    def _work(self) -> None:
        try:
            with _variables(QUIET | {"WANDB_CACHE_DIR": str(self.folder / "cache")}):
                self._record = self._read()
                run = self._init()
            while (told := self._told.get()) is not None:
                self._tell(run, *told)
            run.finish(exit_code=self._exit_code)
        except Exception as error:
            log.warning("Weights & Biases is told nothing more: %s: %s", type(error).__name__, error)
        finally:
            with suppress(Exception):
                _end_service()

    def _init(self) -> Any:
        """Their run: at the server where that is wanted and answers, else on disk."""
        if self.settings.mode == "online":
            try:
                return self._open("online")
            except Exception as error:
                log.warning("Weights & Biases does not answer: %s; the run goes on offline", error)
                _end_service()  # which still holds the run's id
        return self._open("offline")

    def _open(self, mode: Literal["online", "offline"]) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True,
            x_disable_meta=True,  # the command line among it, which may hold secrets
            init_timeout=INIT_SECONDS, finish_timeout=self.settings.finish_seconds, stop_fn=self._stop,
        )  # fmt: skip
        run = wandb.init(
            mode=mode, dir=self.folder.parent, project=self.settings.project, entity=self.settings.entity or None,
            name=self.run, tags=list(self.settings.tags), id=self._record["id"], resume="allow",
            config=dict(self.config), settings=settings,
        )  # fmt: skip
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        log.info("Weights & Biases: %s", run.url or run.dir)
        return run

    def _tell(self, run: Any, kind: Kind, step: int, values: Mapping[str, Any]) -> None:
        """What was told before a resume is not told again. A failure costs this one."""
        if step <= self._record["told"].get(kind, -1):
            return
        try:
            run.log({"step": step} | (_pictures(values) if kind == "previews" else dict(values)))
            self._record["told"][kind] = step
            rewrite(self.folder / RECORD, json.dumps(self._record))
        except Exception as error:
            if self._failures.is_due():
                log.warning("Weights & Biases was not told of step %d: %s%s", step, error, self._failures.times())

    def _read(self) -> dict[str, Any]:
        """What an earlier session told, or the beginnings of a new record."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            return {"id": str(record["id"]), "told": {str(kind): int(step) for kind, step in record["told"].items()}}
        return {"id": secrets.token_hex(4), "told": {}}

    def _stop(self) -> None:
        self.control.stop("stopped on the page of Weights & Biases", asker="Weights & Biases")


def _pictures(values: Mapping[str, Sequence[tuple[Path, str]]]) -> dict[str, Any]:
    import wandb

    return {name: [wandb.Image(str(path), caption=text) for path, text in shown] for name, shown in values.items()}


def _has_key() -> bool:
    """Whether it is known who the user is there; nobody is asked."""
    with _variables(QUIET):
        import wandb

        return bool(wandb.login(prompt=False, verify=False))


def _end_service() -> None:
    """End the library's process, unless somebody else has a run of theirs."""
    import wandb

    if wandb.run is None:
        wandb.teardown()


@contextmanager
def _variables(values: Mapping[str, str]) -> Generator[None, None, None]:
    """These environment variables within, where they are not set."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
