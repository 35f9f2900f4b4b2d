"""The handlers of one signal in their order, and what is known of each without running it."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from events.bus import Bus
from events.marks import Mark
from events.plugin import Plugin, PluginTable
from events.signals import Handler
from events.spec import Build, Notification, SignalSpec, Transform

from ..config.tables import Config
from ..errors import ConfigError
from ..invocation import typed
from ..log.redaction import Redactor
from ..pages.document import counted
from .values import settings_text, state_text

Rows = tuple[tuple[str, str], ...]
"""(what, said of it)."""
BEFORE_ENCODER = ("sample.image", "sample.crop", "sample.pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A handler with its plugin, as the config has it, and the mark that its author put on it."""

    handler: Handler
    plugin: Plugin
    table: PluginTable
    mark: Mark

    @property
    def key(self) -> tuple[str, str]:
        return self.handler.plugin, self.handler.label


def spec_named(bus: Bus, name: str) -> SignalSpec:
    """The signal's entry. Raises ConfigError for a name that no signal has, with what could have been meant."""
    known = {signal.name: signal.spec for signal in bus.signals}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1, cutoff=0.5) or [one for one in known if one.endswith(f".{name}")][:1]
    hint = f"did you mean {near[0]!r}?" if near else f"`{typed('events')}` lists them"
    raise ConfigError("plan", [f"--explain  {name!r} is no signal; {hint}"])


def links_of(bus: Bus, tables: Sequence[PluginTable], spec: SignalSpec) -> tuple[Link, ...]:
    """In the order in which they run."""
    by_name = {table.name: table for table in tables}
    handlers = next(signal.handlers for signal in bus.signals if signal.name == spec.name)
    return tuple(
        Link(
            handler=handler, plugin=bus.plugins[handler.plugin], table=by_name[handler.plugin],
            mark=_mark_of(bus.plugins[handler.plugin], handler),
        )
        for handler in handlers
    )  # fmt: skip


def signal_rows(spec: SignalSpec, links: Sequence[Link]) -> Iterator[tuple[str, str]]:
    """What the signal is."""
    kinds = {
        "notification": "notification: handlers look on and return nothing",
        "transform": "transform: each handler takes what the one before it returned",
        "build": "build: each handler takes a part of the step and returns one like it",
    }
    yield "kind", kinds[spec.kind]
    yield "handed on", _handed_on(spec)
    if isinstance(spec, Transform | Build):
        yield "beside it", f"{spec.context.__name__}: {', '.join(_fields_of(spec.context))}"
    stays = "" if isinstance(spec, Notification) else "; what is handed on stays as it is"
    yield "handlers", str(len(links)) if links else f"none in this config{stays}"


def handler_rows(link: Link, spec: SignalSpec, config: Config, redactor: Redactor) -> Iterator[tuple[str, str]]:
    """All but its example and what a checkpoint holds of it."""
    plugin, table = link.plugin, link.table
    yield "does", _said_by(type(plugin)) or "says nothing of itself"
    if method := _said_by(getattr(type(plugin), link.handler.label.rpartition(".")[2], None)):
        yield "here", method
    yield "plugin", f"{table.name}, which is {table.use}, plugins[{table.position}] of the config"
    yield "priority", _priority(link)
    yield "runs", _place(link, spec, config)
    if ranks := _ranks(link, spec):
        yield "ranks", ranks
    if link.mark.training_only:
        yield "validation", "goes without it (training_only)"
    if table.variations and spec.where == "worker":
        yield "variations", f"its draws come again after {counted(table.variations, 'showing')} of a picture"
    if isinstance(spec, Notification):
        yield "on error", _on_error(link, spec)
    chosen, default = settings_text(plugin, table, redactor)
    yield "settings", chosen or "none in the config"
    if default:
        yield "by default", default
    yield "state", _state(link, spec, redactor)


def _mark_of(plugin: Plugin, handler: Handler) -> Mark:
    return next(
        subscription.mark
        for subscription in plugin.subscriptions()
        if subscription.label == handler.label and subscription.mark.signal == handler.signal
    )


def _handed_on(spec: SignalSpec) -> str:
    if isinstance(spec, Notification):
        doc = (inspect.getdoc(spec.payload) or "").partition("\n")[0]
        return f"{spec.payload.__name__}: {', '.join(_fields_of(spec.payload))}. {doc}".strip()
    return spec.value if isinstance(spec, Transform) else spec.part if isinstance(spec, Build) else spec.carries


def _fields_of(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _said_by(written: object) -> str:
    """The first paragraph of a docstring of its own."""
    return " ".join(inspect.cleandoc(written.__doc__ or "").partition("\n\n")[0].split())


def _priority(link: Link) -> str:
    written, table = link.mark.priority, link.table.priority
    now = f"{link.handler.priority:.0f}"
    if isinstance(table, int):
        return f"{now}, by the config for all of its handlers; the decorator says {written}"
    if isinstance(table, Mapping) and link.handler.signal in table:
        return f"{now}, by the config for this signal; the decorator says {written}"
    return f"{now}, by the decorator"


def _place(link: Link, spec: SignalSpec, config: Config) -> str:
    if link.handler.is_async:
        full = {"block": "training waits", "drop_oldest": "the oldest is dropped", "coalesce": "the newest is replaced"}
        waiting = f"while {counted(link.plugin.lane_size, 'event waits', 'events wait')}"
        return f"in the background thread, beside training; {waiting}, {full[link.plugin.lane_full]}"
    if spec.where == "worker":
        workers = config.data.workers
        where = f"in {counted(workers, 'loader worker')}" if workers else "in the training process (data.workers = 0)"
        cached = spec.name in BEFORE_ENCODER and config.cache.latents
        when = ", only when a picture's latents are not in the cache" if cached else ""
        return f"{where}, on an instance of the plugin of its own{when}"
    if spec.kind == "build":
        return "in the training process, once, before the first step"
    return "in the training process, which waits for it"


def _ranks(link: Link, spec: SignalSpec) -> str:
    """Of several processes those that it runs on, where that is not all of them as a matter of course."""
    if spec.main_only:
        return "of several processes the main one alone, which is the only one to fire this"
    if not isinstance(spec, Notification):
        return ""
    if link.handler.is_collective:
        return "of several processes every one, and they wait for each other (collective)"
    said = "" if link.mark.ranks else ", as this signal has it"
    return f"of several processes {'every one' if link.handler.ranks == 'all' else 'the main one alone'}{said}"


def _on_error(link: Link, spec: Notification[Any]) -> str:
    words = {
        "raise": "the run ends, with a checkpoint where it is training",
        "warn": "a line in the log, and training goes on",
        "disable": "a line in the log, and after three failures it is no longer called",
    }
    if spec.on_failure == "raise":
        return f"{words['raise']} (always, at this signal)"
    if spec.on_failure == "continue":
        return f"{words['warn']} (always, at this signal)"
    if link.handler.is_collective:
        return f"{words['raise']} (always, since it is collective)"
    named = f'on_error = "{link.handler.on_error}"'
    return f"{words[link.handler.on_error]} ({named}{'' if link.table.on_error else ', by default'})"


def _state(link: Link, spec: SignalSpec, redactor: Redactor) -> str:
    try:
        text = state_text(link.plugin.state_dict(), redactor)
    except Exception as error:  # the plugin's own
        return f"cannot be had: {redactor.text(f'{type(error).__name__}: {error}')}"
    if not text:
        return "none that a checkpoint would hold"
    return f"at the start of a run: {text}"
