"""What can be wrong with a plugin, found when it is attached and told with file, line and remedy (P4)."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, get_args

from .lane import FullPolicy
from .marks import Mark
from .plugin import Plugin, PluginTable, Subscription
from .ranks import On
from .spec import Notification, SignalSpec

DECORATORS = {"notification": "@on", "transform": "@transform", "build": "@build"}
TABLE_KEYS = ("use", "name", "priority", "on_error", "variations", "enabled")
"""Keys of every `[[plugins]]` table, which never reach a plugin's settings."""
WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def problems_of(
    plugin: Plugin, table: PluginTable, subscriptions: Sequence[Subscription], signals: Mapping[str, SignalSpec]
) -> Iterator[str]:
    """Everything that keeps this plugin from being attached; `signals` holds also what plugins declare."""
    seen: set[tuple[str, str]] = set()
    for subscription in subscriptions:
        at = f"{source_of(subscription.written)}: {table.name}: {subscription.label}"
        name, problem = subscription.mark.signal, _problem_with(subscription, signals)
        if problem is not None:
            yield f"{at}{problem}"
        elif (name, subscription.label) in seen:
            yield f"{at} subscribes twice to {name}; leave one decorator out"
        seen.add((name, subscription.label))
    yield from _stray_priorities(table, [subscription.mark.signal for subscription in subscriptions])
    if not isinstance(inspect.getattr_static(type(plugin), "ranks"), property):
        yield (
            f"{_class_of(plugin)}: {table.name}: ranks holds what a plugin is told of the run's processes; call it"
            ' otherwise. Where handlers run is said by @on(..., ranks="all"), in the class style by runs_on = "all"'
        )
    for name in type(plugin).Settings.model_fields:
        if name in TABLE_KEYS:
            yield f"{_class_of(plugin)}: {table.name}: Settings has {name!r}, a key of every plugin table; call it otherwise"
    if plugin.lane_size < 1 or plugin.lane_full not in get_args(FullPolicy):
        choices = ", ".join(get_args(FullPolicy))
        yield f"{_class_of(plugin)}: {table.name}: lane_size is at least 1 and lane_full one of {choices}"


def problem_with_own(plugin: Plugin, table: PluginTable, spec: object, signals: Mapping[str, SignalSpec]) -> str | None:
    """Why a plugin cannot declare this signal, or None."""
    at = f"{_class_of(plugin)}: {table.name} declares {getattr(spec, 'name', spec)}"
    if not isinstance(spec, SignalSpec):
        return f"{at}, which is no Notification, Transform or Build"
    room, _, rest = spec.name.partition(".")
    names = [kind.__name__ for kind in type(plugin).__mro__[: -len(Plugin.__mro__)]]
    allowed = dict.fromkeys(form for name in (table.name, *names) for form in (_snake_case(name), name))
    if room not in allowed or not rest:
        return f"{at}; a plugin's signal is named after it, such as {next(iter(allowed))}.{rest or 'something'}"
    if spec.name in signals and signals[spec.name] is not spec:
        return f"{at}, which another plugin has declared; a signal is declared once and imported by the others"
    if isinstance(spec, Notification) and is_dataclass(spec.payload) and not _is_frozen(spec.payload):
        return f"{at} with a payload that can be changed; write @dataclass(frozen=True, slots=True, kw_only=True)"
    if isinstance(spec, Notification) and spec.ranks not in get_args(On):
        return f"{at} with ranks={spec.ranks!r}; where its handlers run is {_either_of(On)}"
    if isinstance(spec, Notification) and spec.main_only and spec.ranks == "all":
        return f'{at} as fired on the main rank alone and handled on all; leave out main_only, or ranks="all"'
    if spec.allows_async and spec.where == "worker":
        return f"{at} as asynchronous in workers, which have no background loop; leave out asynchronous=True"
    return None


def source_of(written: Any) -> str:
    """`file:line` of a definition, seen through decorators; the path from the current folder where it is below."""
    while isinstance(written, partial):
        written = written.func
    code = getattr(inspect.unwrap(written), "__code__", None)
    if code is None:
        return f"{getattr(written, '__module__', type(written).__module__)}"
    path = Path(code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_firstlineno}"


def _problem_with(subscription: Subscription, signals: Mapping[str, SignalSpec]) -> str | None:
    """Why a method cannot have its signal, as the rest of a sentence that begins with the method, or None."""
    mark, written, name = subscription.mark, subscription.written, subscription.mark.signal
    if name not in signals:
        return f" subscribes to {name!r}, which is no signal{_did_you_mean(name, signals)}"
    spec = signals[name]
    if mark.kind != spec.kind:
        return f": {name} is a {spec.kind} signal; use {DECORATORS[spec.kind]}"
    if not callable(subscription.method):
        return f" is no method but a {type(subscription.method).__name__}; mark a plain def"
    is_async = inspect.iscoroutinefunction(written)
    if is_async and not spec.allows_async:
        return f" is async, but {name} must be handled before training goes on; write a plain def"
    if not is_async and callable(written) and inspect.iscoroutinefunction(inspect.unwrap(written)):
        return " is async beneath a decorator that is not, so nobody would await it; make the decorator's wrapper async"
    if (stray := _stray_ranks(mark, spec, is_async=is_async)) is not None:
        return stray
    if inspect.isgeneratorfunction(written) or inspect.isasyncgenfunction(written):
        return " contains a yield, so calling it would do nothing; write a plain def"
    try:
        inspect.signature(subscription.method).bind(*spec.parameters)
    except TypeError as error:
        return f": a handler of {name} takes ({', '.join(('self', *spec.parameters))}): {error}"
    except ValueError:
        return None  # written in C, with a signature that cannot be read
    return None


def _stray_ranks(mark: Mark, spec: SignalSpec, *, is_async: bool) -> str | None:
    """What is wrong with the ranks that a handler wants to run on, as `_problem_with` gives it."""
    if mark.ranks not in (None, *get_args(On)):
        return f": ranks is {_either_of(On)}, not {mark.ranks!r}"
    if spec.main_only and (mark.ranks == "all" or mark.collective):
        what = "collective" if mark.collective else "ranks"
        return f": {spec.name} is fired on the main rank alone; leave out {what}"
    if spec.where == "worker" and (mark.ranks or mark.collective):
        return (
            f": {spec.name} is handled where samples are made, on every rank by itself; leave out ranks and collective"
        )
    if mark.collective and is_async:
        return " is async and collective, but ranks wait for each other in step; write a plain def"
    return _stray_collective(mark, spec) if mark.collective and isinstance(spec, Notification) else None


def _stray_collective(mark: Mark, spec: Notification[Any]) -> str | None:
    """Why nobody may be waited for at this signal, or not by this handler."""
    if spec.on_failure == "continue":
        return f" is collective, but {spec.name} also fires when another rank has ended, and would be waited for; leave it out"
    if (mark.ranks or spec.ranks) != "all":
        return ' is collective, so every rank must call it; add ranks="all"'
    return None


def _stray_priorities(table: PluginTable, handled: Sequence[str]) -> Iterator[str]:
    if table.priority is None or isinstance(table.priority, int):
        return
    otherwise = f"it handles {', '.join(dict.fromkeys(handled)) or 'nothing'}"
    for name in table.priority:
        if name not in handled:
            hint = _did_you_mean(name, handled, otherwise=otherwise)
            yield f"plugins[{table.position}].priority: {table.name} has no handler for {name!r}{hint}"


def _did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "the command `events` lists them") -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {otherwise}"


def _class_of(plugin: Plugin) -> str:
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"


def _either_of(choice: Any) -> str:
    """
    >>> _either_of(On)
    '"main" or "all"'
    """
    return " or ".join(f'"{one}"' for one in get_args(choice))


def _snake_case(name: str) -> str:
    return WORD_STARTS.sub("_", name).lower()


def _is_frozen(payload: Any) -> bool:
    return bool(payload.__dataclass_params__.frozen)
