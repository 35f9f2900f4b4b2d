"""A worker process as a run has them: it builds the plugins anew from import path and settings, and applies transforms."""

import importlib
import multiprocessing
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Literal, TypeVar

from ..bus import Bus
from ..errors import PluginError
from ..plugin import Plugin, PluginTable
from ..signals import TransformSignal
from .comparing import are_equal

StartMethod = Literal["spawn", "forkserver"]
CLOSE_SECONDS = 1.0
"""What the process is given to end by itself."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Both(Generic[Value]):
    """What a transform has made of one value, in this process and in a worker."""

    here: Value
    worker: Value

    @property
    def are_equal(self) -> bool:
        """Of the same type and content, as deep as tensors, pictures, mappings, sequences and payloads go."""
        return are_equal(self.here, self.worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the process needs to build the plugins."""

    tables: tuple[PluginTable, ...]
    folders: Mapping[str, tuple[str, ...]]
    """Of each package that plugins lie in; some may have joined it since it was imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A value, or the text of what went wrong."""

    value: Any = None
    error: str = ""
    plugin: str = ""
    """Whose handler failed; empty when the plugins could not even be built or the value could not travel."""
    signal: str = ""

    def result(self) -> Any:
        """Raises PluginError for a handler that failed, RuntimeError for anything else."""
        if self.plugin:
            raise PluginError(f"in a worker process, {self.error}", plugin=self.plugin, signal=self.signal)
        if self.error:
            raise RuntimeError(f"in a worker process, {self.error}")
        return self.value


class WorkerProcess:
    """One process that lives until `close`; its plugins are those of the tables, and not the live ones."""

    def __init__(self, tables: Sequence[PluginTable], start_method: StartMethod) -> None:
        """Raises ValueError for a plugin that no other process can import."""
        for table in tables:
            if "<locals>" in table.use:
                raise ValueError(f"{table.use} is out of reach of a worker process; define it at the top of a module")
        self.start_method = start_method
        self.is_over = False
        context: Any = multiprocessing.get_context(start_method)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does
        self._send(Room(tables=tuple(tables), folders=folders_of(table.use for table in tables)))

    def give(self, signal: str, value: Any, context: Any) -> None:
        """Hand over a value as it is now; `take` brings back what became of it. Raises what pickling it raises."""
        self._send((signal, *deepcopy((value, context))))  # tensors travel by memory that both processes write to

    def take(self, limit_seconds: float) -> Answer:
        """The answer to the value that was given. Raises TimeoutError, and RuntimeError when the process has died."""
        if not self._pipe.poll(limit_seconds):
            self._process.kill()
            self.close()
            raise TimeoutError(f"a worker process has not answered within {limit_seconds} s")
        try:
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        return answer

    def close(self) -> None:
        """End the process; one that does not end is killed."""
        self.is_over = True
        self._pipe.close()
        self._process.join(CLOSE_SECONDS)
        self._process.kill()
        self._process.join()

    def _send(self, what: Any) -> None:
        try:
            self._pipe.send(what)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> RuntimeError:
        self.close()
        return RuntimeError(f"a worker process has ended with code {self._process.exitcode}")


def work(pipe: "Connection[Any, Any]") -> None:
    """In the process: build the plugins, then answer until the pipe is closed."""
    with suppress(EOFError, OSError):
        bus = _built(pipe)
        while True:
            answer = _answer(bus, pipe)
            try:
                pipe.send(answer)
            except OSError:
                raise
            except Exception as error:  # what cannot travel between processes; none of it has been sent
                pipe.send(Answer(error=f"what was returned cannot be sent: {type(error).__name__}: {error}"))


def folders_of(uses: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The folders of every package that a class path leads through, the outermost first."""
    modules = dict.fromkeys(use.rpartition(".")[0] for use in uses)
    names = [name[:end] for name in modules for end, letter in enumerate(name) if letter == "."]
    return {name: tuple(sys.modules[name].__path__) for name in names}


def _built(pipe: "Connection[Any, Any]") -> Bus | Answer:
    try:
        room: Room = pipe.recv()
        for name, folders in room.folders.items():
            package = importlib.import_module(name)
            known = list(package.__path__)
            for folder in folders:
                if folder not in known:
                    package.__path__.append(folder)
        bus = Bus()
        bus.attach([(_plugin(table), table) for table in room.tables], where=("worker",))
        bus.seal()
        return bus
    except (EOFError, OSError):
        raise
    except BaseException as error:  # whatever importing a plugin's module may do
        return Answer(error=f"the plugins cannot be built: {''.join(traceback.format_exception(error))}")


def _plugin(table: PluginTable) -> Plugin:
    """As a run makes it: of the class that is found by its path, and of settings that are validated."""
    module, _, name = table.use.rpartition(".")
    kind: type[Plugin] = getattr(importlib.import_module(module), name)
    return kind(kind.Settings.model_validate(dict(table.settings)), name=table.name)


def _answer(bus: Bus | Answer, pipe: "Connection[Any, Any]") -> Answer:
    try:
        name, value, context = pipe.recv()
        if isinstance(bus, Answer):
            return bus
        signal = next(signal for signal in bus.signals if signal.name == name)
        assert isinstance(signal, TransformSignal)
        return Answer(value=signal.apply(value, context))
    except (EOFError, OSError):
        raise
    except PluginError as error:
        text = f"{error}\n{''.join(traceback.format_exception(error.__cause__ or error))}"
        return Answer(error=text, plugin=error.plugin, signal=error.signal)
    except BaseException as error:  # a value that cannot be read here too
        return Answer(error="".join(traceback.format_exception(error)))
