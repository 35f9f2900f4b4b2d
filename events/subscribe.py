"""The three decorators that mark a plugin's methods. They only mark; the bus does the rest when it attaches the plugin.

Type checkers read `subscribe.pyi` in place of this file, which knows what a handler of each signal takes and returns.

>>> from events.marks import marks_of
>>> class Shout:
...     @transform("sample.caption", priority=90)
...     def shout(self, caption, sample):
...         return caption.upper()
>>> [(mark.kind, mark.signal, mark.priority) for mark in marks_of(Shout.shout)]
[('transform', 'sample.caption', 90)]
"""

from collections.abc import Callable

from .marks import DEFAULT_PRIORITY, Handler, Mark, marker
from .ranks import On


def on(
    signal: str, *, priority: int = DEFAULT_PRIORITY, ranks: On | None = None, collective: bool = False
) -> Callable[[Handler], Handler]:
    """Look on: the method takes the event and returns nothing. It may be `async` where the catalogue allows it.

    Where several processes train one run, ``ranks="main"`` is for what happens once, such as writing a file, and
    ``ranks="all"`` for what each of them must do, such as changing its modules; left out: as the catalogue says, which
    is main for all but the signals that hand out modules. `collective` says that it waits for the other ranks.
    """
    return marker(Mark(kind="notification", signal=signal, priority=priority, ranks=ranks, collective=collective))


def transform(
    signal: str, *, priority: int = DEFAULT_PRIORITY, training_only: bool = False
) -> Callable[[Handler], Handler]:
    """Change: the method takes the value its predecessor returned and a context, and returns the next value.

    `training_only` is for augmentation and dropout: samples of validation sets go without it.
    """
    return marker(Mark(kind="transform", signal=signal, priority=priority, training_only=training_only))


def build(part: str, *, priority: int = DEFAULT_PRIORITY) -> Callable[[Handler], Handler]:
    """Compose: the method takes a part of the step and returns a part of the same signature, once, before step 1.

    `part` is the signal's name without its ``build.``: ``@build("loss")``.
    """
    return marker(Mark(kind="build", signal=f"build.{part.removeprefix('build.')}", priority=priority))
