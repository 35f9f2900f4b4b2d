"""The page of one signal."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from events.marks import DEFAULT_PRIORITY, Mark
from events.spec import Notification, SignalSpec
from events.timing import SLOW_SECONDS

from .bundled import Handled
from .carried import checks_of, hands_over_a_function, parameter_of, payload_of, words_of
from .described import Described, Member
from .example import decorator_of, example, firing, maker_of
from .markdown import in_cell, paragraphs, table
from .run_map import excerpt, places_of

MADE = (
    "<!-- Written by `python run.py events --write docs/signals` from the catalogue and what it names;"
    " change that, not this page. -->"
)
KINDS = {
    "notification": "notification: a handler looks on",
    "transform": "transform: a handler takes a value and returns the next",
    "build": "build: a handler takes a part of the training step and returns one of the same signature, once",
}
PLACES = {
    "training": "in the training process",
    "worker": "where samples are made, on an instance of the plugin of its own: in each loader worker, with"
    " `data.workers = 0` in the training process",
}
SEVERAL = "../write-a-plugin.md#several-processes"
FAILURES = {
    "policy": "What `on_error` in the plugin's table says: `raise` ends the run, and is what a plain handler does without"
    " it; `warn` logs; `disable` logs, and takes the handler out after three.",
    "raise": "The run ends whatever `on_error` says, since what follows relies on the handler.",
    "continue": "It is logged whatever `on_error` says, and the other handlers are called all the same.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalPage:
    """A signal with all that its page tells of it."""

    spec: SignalSpec
    types: Mapping[str, Described]
    hook: str
    """The method of class-style plugins; empty where there is none."""
    handled: Sequence[Handled]
    """By the bundled plugins."""
    types_page: str
    """Where the types of fields are told."""

    def lines(self) -> Iterator[str]:
        """The page, line by line."""
        spec = self.spec
        yield from (
            MADE,
            "",
            f"# {spec.name}",
            "",
            f"{spec.meaning} [All signals](README.md)",
            "",
            *table(("", ""), self._facts()),
        )
        yield from ("", "## A handler", "", "```python", *example(spec), "```", "", *self._order())
        yield from ("", "## What it is given", "", *self._given(), "", "## What it returns", "", *self._returned())
        yield from ("", "## When it fails", "", self._failure(), "", "## When it is called", "", *self._place())
        yield from ("", "## Bundled plugins", "", *self._bundled(), "", "## In a test", "")
        yield f"`{firing(spec)}`, with `Harness` and `{maker_of(spec)}` from `events.testing`."

    def _facts(self) -> Iterator[tuple[str, str]]:
        spec = self.spec
        runs_beside = "yes: an `async def` runs beside training, see [there](../write-a-plugin.md#async-handlers)"
        if isinstance(spec, Notification) and spec.coalesced:
            runs_beside += "; an event that still waits is replaced by the next"
        yield "kind", KINDS[spec.kind]
        yield "runs", PLACES[spec.where]
        yield f"[processes]({SEVERAL})", ranks_of(spec)
        yield "`async`", runs_beside if spec.allows_async else "no"
        yield (
            "slow",
            f"a call of over {SLOW_SECONDS[spec.pace]:g} s is named in the log (`log.slow_{spec.pace}_seconds`)",
        )
        yield "[class style](../class-style-plugins.md)", f"`{self.hook}`" if self.hook else "no method; decorate one"

    def _order(self) -> Iterator[str]:
        example = decorator_of(self.spec, "priority=20")
        yield f"Low priorities run first, {DEFAULT_PRIORITY} unless given, as in `{example}`; then the plugins' order in the config."
        if self.spec.where == "worker":
            yield f"With `{decorator_of(self.spec, 'training_only=True')}` validation goes without the handler."

    def _given(self) -> Iterator[str]:
        payload = self.types[payload_of(self.spec)]
        if not isinstance(self.spec, Notification):
            yield from (f"`{parameter_of(self.spec)}`: `{words_of(self.spec)}`, as the handler before returned it.", "")
        name = "event" if isinstance(self.spec, Notification) else "context"
        yield from (f"`{name}`, an `events.payloads.{payload.name}`:", "", *paragraphs(payload.meaning), "")
        yield from members_table(payload.members, self.types, self.types_page)

    def _returned(self) -> Iterator[str]:
        if isinstance(self.spec, Notification):
            members = {one.name for one in self.types[payload_of(self.spec)].members}
            yield "Nothing. " + "What it wants of the run it asks by `event.control`." * ("control" in members)
            return
        yield f"The next `{words_of(self.spec)}`. None, the forgotten `return`, is refused. Otherwise looked at by"
        yield from ("", *(f"* {line}" for line in checks_of(self.spec)))

    def _failure(self) -> str:
        """What becomes of an exception that a handler raises."""
        if not isinstance(self.spec, Notification):
            later = ", also when the function that it returned fails within the step" * hands_over_a_function(self.spec)
            return f"The run ends with exit code 6, naming plugin, method, file, line and signal{later}."
        late = " An async handler fails between two steps, and does `disable` without `on_error`."
        return FAILURES[self.spec.on_failure] + late * self.spec.allows_async

    def _place(self) -> Iterator[str]:
        count = len(places_of(self.spec.name))
        yield from ("```text", *excerpt(self.spec.name), "```", "")
        others = f" It has {count - 1} more place{'s' * (count > 2)} in the map of `events/catalogue.py`." * (count > 1)
        yield f"`?` is at most once, `*` any number of times, `+` at least once.{others}"

    def _bundled(self) -> Iterator[str]:
        if not self.handled:
            yield "None of them handles it."
            return
        rows = [
            (f"[`{one.use}`](../../{one.file})", f"`{one.method}`{_noted(one.mark)}", str(one.mark.priority))
            for one in self.handled
        ]  # fmt: skip
        yield from table(("plugin", "method", "priority"), rows)


def ranks_of(spec: SignalSpec) -> str:
    """On which of several processes its handlers run."""
    if spec.main_only:
        return "the main one alone fires it"
    if not isinstance(spec, Notification):
        return "every one"
    if spec.ranks == "all":
        return 'every one; with `ranks="main"` the main one alone'
    return 'the main one alone; with `ranks="all"` every one'


def _noted(mark: Mark) -> str:
    """What is to be known of a handler besides."""
    together = " together" if mark.collective else ""
    return ", in training only" * mark.training_only + f", on every rank{together}" * (mark.ranks == "all")


def members_table(members: Sequence[Member], types: Mapping[str, Described], page: str) -> Iterator[str]:
    """Fields with types that lead to `page`, where it tells of them."""
    rows = [(f"`{one.name}`", _linked(one.type, types, page), in_cell(one.meaning)) for one in members]
    return table(("field", "type", "meaning"), rows)


def _linked(text: str, types: Mapping[str, Described], page: str) -> str:
    """A type that leads to what is told of the first known one in it."""
    known = next((word for word in re.findall(r"\w+", text) if word in types), "")
    code = f"`{in_cell(text)}`"
    return f"[{code}]({page}#{known.lower()})" if known else code
