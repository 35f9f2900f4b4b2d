"""What `run.py plan --explain` is asked for, and the answer on the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from events.bus import Bus
from events.catalogue import BATCH_HOST, DATA_ITEMS, EPOCH_PLAN, RUN_CONFIGURE
from events.spec import SignalSpec

from ..config.file import redactor_of
from ..config.tables import Config, PluginSource
from ..errors import CheckpointError, ConfigError
from ..log.redaction import Redactor
from ..pages.document import Facts, Section
from ..pages.terminal import print_report
from .chain import Link, Rows, handler_rows, links_of, signal_rows, spec_named
from .stored import Stored, newest_states

if TYPE_CHECKING:
    from .examples import Example

OF_DATA = (RUN_CONFIGURE.name, DATA_ITEMS.name, EPOCH_PLAN.name, BATCH_HOST.name)
"""Signals of which there are examples without training, beside those of samples."""
SAMPLES = "sample."
PICTURES = ("sample.image", "sample.pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command's options."""

    signal: str
    sample: int = 0
    item: str = ""
    out: Path | None = None

    def require_sense(self, spec: SignalSpec) -> None:
        """Raises ConfigError for options that the signal has no use for, and for a folder that is none."""
        problems = []
        if self.sample and self.item:
            problems.append("--sample and --item  each choose the sample; give one of them")
        for option, value in (("--sample", self.sample), ("--item", self.item)):
            if value and not spec.name.startswith(SAMPLES):
                problems.append(f"{option}  chooses a sample, and {spec.name} is handed none")
        if self.out is not None and spec.name not in PICTURES:
            problems.append(f"--out  is for pictures, and {spec.name} is handed none; {' and '.join(PICTURES)} are")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            problems.append(f"--out  {self.out} is no folder")
        if problems:
            raise ConfigError("plan", problems)


def explain_signal(request: Request, config: Config, bus: Bus, plugins: PluginSource, source: str) -> None:
    """Print the chain of a signal, with an example where there can be one without training; `source` is the config's file.

    Raises, after what is known without it, whatever keeps the example from being made: ConfigError, DataError, PluginError.
    """
    spec = spec_named(bus, request.signal)
    request.require_sense(spec)
    links, redactor = links_of(bus, plugins.tables, spec), redactor_of(config)
    stored = _stored(config) if links else None
    example, failure = None, None
    try:
        if _has_example(spec) and (links or spec.name.startswith(SAMPLES)):
            example = _example(request, config, bus, plugins, source)
    except Exception as error:  # a plugin's, or what is wrong with the data; raised again below
        failure = error
    finally:
        bus.close()
    print_report(_sections(spec, links, config, redactor, stored, example, failed=failure is not None))
    if failure is not None:
        raise failure
    if example is not None and request.out is not None:
        _write(example, request.out)


def _has_example(spec: SignalSpec) -> bool:
    return spec.name in OF_DATA or spec.name.startswith(SAMPLES)


def _example(request: Request, config: Config, bus: Bus, plugins: PluginSource, source: str) -> "Example":
    from ..log.lines import configure_logging
    from .examples import Choice, example_of

    configure_logging("error")
    choice = Choice(sample=request.sample, item=request.item)
    return example_of(request.signal, config, bus, plugins, source, choice)


def _stored(config: Config) -> Stored | str | None:
    """What the newest checkpoint holds, or why it cannot be said."""
    try:
        return newest_states(config)
    except CheckpointError as error:
        return str(error)


def _sections(
    spec: SignalSpec, links: tuple[Link, ...], config: Config, redactor: Redactor, stored: Stored | str | None,
    example: "Example | None", *, failed: bool,
) -> Iterator[Section]:  # fmt: skip
    about = redactor.text(example.about) if example else _no_example(spec, has_handlers=bool(links), failed=failed)
    facts = Facts(rows=(*signal_rows(spec, links), ("example", about)))
    yield Section(title=f"{spec.name}: {spec.meaning}", blocks=(facts,))
    for number, link in enumerate(links, start=1):
        rows = [*handler_rows(link, spec, config, redactor)]
        if isinstance(stored, Stored):
            rows.append(("checkpoint", stored.of(link.handler.plugin, redactor)))
        elif stored:
            rows.append(("checkpoint", stored))
        if example is not None:
            rows += _redacted(example.by_handler.get(link.key, (("example", "was not called"),)), redactor)
        title = f"{number}  {link.handler.label}  {link.handler.source}"
        yield Section(title=title, blocks=(Facts(rows=tuple(rows)),))
    if example is not None and example.end:
        yield Section(title="Behind the chain", blocks=(Facts(rows=_redacted(example.end, redactor)),))


def _redacted(rows: Rows, redactor: Redactor) -> Rows:
    return tuple((name, redactor.text(text)) for name, text in rows)


def _no_example(spec: SignalSpec, *, has_handlers: bool, failed: bool) -> str:
    if failed:
        return "could not be made; what is in its way stands at the end"
    if _has_example(spec) and not has_handlers:
        return "none, since nothing is done with it"
    why = {"notification": "it tells of a run", "build": "it is made with the model"}
    return f"none without training: {why.get(spec.kind, 'its values come to be while a run trains')}"


def _write(example: "Example", folder: Path) -> None:
    """Raises ConfigError where the pictures cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in example.pictures.items():
            image.convert("RGB").save(folder / name)
    except OSError as error:
        raise ConfigError("plan", [f"--out  {folder} cannot be written: {error.strerror or error}"]) from error
    names = ", ".join(example.pictures) or "no picture"
    print_report([Section(title=f"{folder}", blocks=(names,))])
