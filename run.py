"""The composition root and the command line of Signalbox: it brings config, bus, plugins and trainer together.

python run.py                            trains config.toml
python run.py train my.toml --set train.steps=100
python run.py data my.toml               says what it would train on; --html, --look N and --plan FILE show more
python run.py import train.json          writes a config from that of another trainer
python run.py convert old.ckpt new.safetensors   makes a safe file of pickled weights
python run.py new plugin soft_light       writes a plugin with a handler of each kind, and its test
python run.py runs                       lists runs, and how to go on with them; compare A B and report NAME say more
python run.py sample --run NAME --prompt "a red heart"   renders with an export or a checkpoint of a run
python run.py plan | events | check | schema | view

Installed, `signalbox` stands for `python run.py`.
"""

import gc
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.history.commands import compare, report, runs
from core.invocation import invocation

if TYPE_CHECKING:
    from core.config.tables import Config, PluginSource
    from core.errors import TrainerError
    from core.log.redaction import Redactor
    from core.ranks.crew import Crew
    from core.ranks.environment import Place
    from core.run.session import Outcome, Session
    from core.run_folder.folder import RunFolder
    from events.bus import Bus
    from events.errors import PluginError
    from events.ranks import Ranks

ConfigPath = Annotated[Path, typer.Argument(help="the config file")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="TABLE.KEY=VALUE", help="override a key; repeatable")]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", help="leave out every plugin of the config")]
COMMANDS = (
    "train", "plan", "events", "sample", "check", "data", "import", "convert", "schema", "view", "new", "runs", "compare",
    "report",
)  # fmt: skip
DEFAULT_CONFIG = Path("config.toml")
PROFILED_STEPS = 10

HELP = "Train text-to-image diffusion models; everything around the step is a plugin. Without a command: train."
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "PYTHONSAFEPATH": "1",  # no worker finds modules in the current folder
    "MKL_CBWR": "AUTO,STRICT",  # on the CPU, products of matrices have the same bits wherever these lie in memory
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # when a rank ends, the others' sockets would say so at length
}
"""What holds unless somebody has set it otherwise; libraries read it when they are imported."""

app = typer.Typer(
    add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=HELP
)

new = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write files to begin with.")
app.add_typer(new, name="new")


@app.command()
def train(
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006  # typer reads the default and never changes it
    fresh: Annotated[bool, typer.Option("--fresh", help="start a new numbered run instead of going on")] = False,
    accept_dataset_change: Annotated[
        bool,
        typer.Option("--accept-dataset-change", help="go on though the data is not what the checkpoint was made with"),
    ] = False,
    trace_events: Annotated[Path | None, typer.Option(metavar="FILE", help="write every firing as a JSON line")] = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="record 10 steps with torch's profiler, a range for each signal and plugin"),
    ] = False,
    profile_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="record N steps instead; the work of loader processes is not in it"),
    ] = None,
    no_plugins: NoPlugins = False,
    processes: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="train in N processes of this machine, one a GPU where there are any"),
    ] = 1,
) -> None:
    """Train, or go on with the unfinished run of this name."""
    os.umask(0o077)  # what a run writes is its owner's
    from core.config.file import redactor_of
    from core.data.fork_server import begin as begin_fork_server
    from core.log.lines import configure_logging
    from core.ranks.environment import read_place

    place = read_place()
    loaded = load(config, overrides, no_plugins=no_plugins)
    if is_to_launch(processes, place):
        assemble_bus(loaded, config)  # a mistake is told once, and not by each of them
        raise typer.Exit(launch(processes, loaded))
    begin_fork_server(loaded.data)
    trace = place.own_file(trace_events)
    bus, source = assemble_bus(loaded, config, trace=trace, ranks=place)
    from core.ranks.crew import crew_of  # these load torch, which whoever mistyped a plugin need not wait for
    from core.run.session import Session, configure
    from core.run_folder.folder import find_run

    loaded = configure(bus, loaded, str(config))
    configure_logging(loaded.log.level, redactor_of(loaded), rank=place.rank)
    with crew_of(place, loaded.distributed) as crew:
        bus.join(crew)
        folder = find_run(loaded, fresh=fresh, crew=crew)
        if folder.status == "finished":
            say(finished_text(folder, loaded), crew)
            return
        session = Session(
            loaded, bus, source, folder, accept_data_change=accept_dataset_change, trace=trace,
            profiled_steps=profile_steps or PROFILED_STEPS * profile, command=command_again(), crew=crew,
        )  # fmt: skip
        outcome = outcome_of(session, loaded, crew)
    if crew.is_main:
        print_outcome(outcome, bus, loaded)
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006  # as above
    explain: Annotated[
        str | None,
        typer.Option(metavar="SIGNAL", help="say all of one signal's handlers, with an example of your data"),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="of the first epoch, the sample that --explain shows")
    ] = None,
    item: Annotated[str | None, typer.Option(metavar="NAME", help="likewise, by the name of its file")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the pictures that --explain tells of, as PNG")
    ] = None,
    no_plugins: NoPlugins = False,
) -> None:
    """Print which plugins handle which signal, in order, with priority, place and file:line."""
    from core.attached.plan_text import plan_lines

    loaded = load(config, overrides, no_plugins=no_plugins)
    bus, source = assemble_bus(loaded, config)
    if explain is None:
        if sample or item or out:
            raise typer.BadParameter("--sample, --item and --out choose what --explain shows; name a signal with it")
        for line in list(plan_lines(bus)) or ["no plugin handles anything"]:
            typer.echo(line)
        return
    from core.explain.request import Request, explain_signal

    with uncollected():
        explain_signal(
            Request(signal=explain, sample=sample or 0, item=item or "", out=out), loaded, bus, source, str(config)
        )


@app.command()
def events(
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write a page for each signal into a folder instead")
    ] = None,
) -> None:
    """Print the catalogue: every signal with its kind, payload and meaning."""
    if write is not None:
        write_signal_pages(write)
        return
    from core.attached.plan_text import catalogue_lines

    for line in catalogue_lines():
        typer.echo(line)


@app.command()
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006  # as above
    no_plugins: NoPlugins = False,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="as if N processes trained, on this machine or on several")
    ] = 1,
) -> None:
    """Say everything that is wrong with a config, its data, its model and its plugins, without training."""
    from core.errors import ConfigError

    loaded = load(config, overrides, no_plugins=no_plugins)
    with uncollected():
        from core.checks import check as look_closer
        from core.checks import problems_beside_plugins
        from core.log.lines import configure_logging
        from core.run.session import configure

        configure_logging("error")
        try:
            bus, source = assemble_bus(loaded, config)
        except ConfigError as error:
            bare = loaded.model_copy(update={"plugins": ()})
            beside = problems_beside_plugins(bare, *assemble_bus(bare, config))
            raise ConfigError(str(config), [*error.problems, *beside]) from error
        for line in look_closer(configure(bus, loaded, str(config)), bus, source, processes=processes):
            typer.echo(line)
    typer.echo(f"plugins   {', '.join(bus.plugins) or 'none'}")
    typer.echo(f"{config} is in order")


@app.command()
def sample(
    prompts: Annotated[list[str], typer.Option("--prompt", help="what to render; repeatable")],
    model: Annotated[Path | None, typer.Option(help="an exported folder")] = None,
    run: Annotated[str | None, typer.Option(metavar="NAME|FOLDER", help="a run, whose newest export is taken")] = None,
    checkpoint: Annotated[
        str, typer.Option(metavar="STEP|newest|best", help="take one of the run's checkpoints instead")
    ] = "",
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema", help="of the checkpoint, the average that the run keeps, or the weights as trained"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="where the grid goes; into a folder, beside every picture")] = Path(
        "samples.png"
    ),
    count: Annotated[int, typer.Option(help="pictures a prompt")] = 4,
    steps: Annotated[int, typer.Option(help="denoising steps")] = 30,
    guidance: Annotated[float, typer.Option(help="classifier-free guidance scale")] = 3.0,
    seed: Annotated[int, typer.Option(help="of the first picture's noise")] = 0,
    width: Annotated[int | None, typer.Option(min=8, help="in pixels; left out: the model's own")] = None,
    height: Annotated[int | None, typer.Option(min=8, help="likewise")] = None,
) -> None:
    """Render prompts with an exported model, or with a checkpoint of a run."""
    from core.history.places import find_folder
    from core.log.lines import configure_logging

    folder = find_folder(run) if run is not None else None
    from core.stored.sampling import Asked, Source, sample_grid

    configure_logging("error")
    asked = Asked(
        prompts=prompts, count=count, steps=steps, guidance=guidance, seed=seed, width=width, height=height
    )  # fmt: skip
    sample_grid(asked, Source(model=model, run=folder, checkpoint=checkpoint, averaged=ema), out, assemble_bus)
    typer.echo(f"{out}")


@app.command()
def data(
    config: ConfigPath = DEFAULT_CONFIG,
    overrides: Overrides = [],  # noqa: B006  # as above
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write the report as a page with pictures")] = None,
    look: Annotated[
        int, typer.Option(min=0, metavar="N", help="write N samples, plugin by plugin, to data-look.html or --html")
    ] = 0,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="write which picture is in which step, .jsonl or .csv")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="that --plan covers; the whole run when left out")] = 0,
    epoch: Annotated[int, typer.Option(min=0, help="whose batches and samples are shown")] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="show what the caches hold that this config does not need, and remove it")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="remove it without asking")] = False,
    no_plugins: NoPlugins = False,
) -> None:
    """Say what a config would train on, without training or reading the model's weights."""
    loaded = load(config, overrides, no_plugins=no_plugins)
    bus, source = assemble_bus(loaded, config)
    from core.log.lines import configure_logging
    from core.report.request import Request, answer
    from core.run.session import configure

    loaded = configure(bus, loaded, str(config))
    configure_logging("error")
    if prune:
        prune_caches(loaded, bus, source, yes=yes)
        return
    answer(Request(html=html, look=look, plan=plan_file, epochs=epochs, epoch=epoch), loaded, bus, source, typer.echo)


@app.command()
def schema(
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="write it to a file instead")] = None,
) -> None:
    """Print the JSON schema of a config, by which editors complete and check it, the bundled plugins' settings too."""
    from core.config.json_schema import config_schema, schema_text, write_schema
    from plugins.loading import bundled_classes

    text = schema_text(config_schema(bundled_classes()))
    if write is None:
        typer.echo(text, nl=False)
        return
    write_schema(text, write)
    typer.echo(f"{write}")


@new.command("plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="in snake_case or CamelCase")],
    folder: Annotated[Path, typer.Option(help="the one that your config lies in")] = Path(),
) -> None:
    """Write a plugin with settings and a handler of each kind, and a test of it that passes."""
    from pkgutil import iter_modules

    import plugins
    from core.scaffold.new_plugin import write_plugin

    for line in write_plugin(name, folder, [module.name for module in iter_modules(plugins.__path__)]):
        typer.echo(line)


@app.command("import")
def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="train.json of EveryDream2; or arguments, command line or dataset_config of kohya's scripts",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="the config to write")] = Path("imported.toml"),
    force: Annotated[bool, typer.Option("--force", help="replace it when it is there")] = False,
) -> None:
    """Write a config from files of EveryDream2 or of kohya's scripts, and say what became of each of their keys."""
    from core.migration.migrate import import_config
    from plugins.loading import plugin_problems

    for line in import_config(files, out, force=force, plugin_problems=plugin_problems, schema=schema_file()):
        typer.echo(line)


@app.command("convert")
def convert_weights(
    source: Annotated[Path, typer.Argument(metavar="OLD", help="pickled weights: .ckpt, .bin, .pt")],
    target: Annotated[Path, typer.Argument(metavar="NEW", help="the .safetensors file to write")],
    force: Annotated[bool, typer.Option("--force", help="replace it when it is there")] = False,
) -> None:
    """Make a .safetensors file of pickled weights, which training does not open; whatever is no tensor is left out."""
    from core.weights.conversion import convert

    for line in convert(source, target, force=force):
        typer.echo(line)


for look_back in (runs, compare, report):
    app.command()(look_back)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="a run's folder, whether the run goes on or is over")],
    host: Annotated[
        str, typer.Option(help="address to serve on; any but this machine's own is for others too")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="the next free one where it is taken; 0: any")] = 8765,
) -> None:
    """Show a run in a browser, from its files, until Ctrl-C."""
    from core.view.command import view_run

    view_run(run, host=host, port=port, tell=typer.echo)


def schema_file() -> Path:
    """Beside this file in a clone; installed, where the demo lies too."""
    import sysconfig

    place = Path("docs") / "config.schema.json"
    cloned = Path(__file__).parent / place
    return cloned if cloned.exists() else Path(sysconfig.get_path("data")) / "share" / "signalbox" / place


def write_signal_pages(folder: Path) -> None:
    """A page for each signal, with the handlers of the bundled plugins and the methods of the class style."""
    from core.signal_pages.pages import Pages
    from plugins.loading import bundled_classes
    from plugins.plugins import HOOKS

    pages = Pages(kinds=bundled_classes(), hooks={name: hook.signal for name, hook in HOOKS.items()})
    typer.echo(f"{folder}: {pages.write(folder)} pages")


@contextmanager
def uncollected() -> Iterator[None]:
    """Importing libraries makes objects that stay; looking for garbage among them meanwhile takes a second."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def prune_caches(config: "Config", bus: "Bus", source: "PluginSource", *, yes: bool) -> None:
    """Show what the config's caches hold without need, ask, and remove it."""
    from core.cache.prune import remove
    from core.log.lines import configure_logging
    from core.run.cache_orphans import orphan_lines, orphans_of

    configure_logging("warning")
    with orphans_of(config, bus, source) as found:
        for orphans in found:
            for line in orphan_lines(orphans):
                typer.echo(line)
        if not any(orphans.keys for orphans in found):
            typer.echo("nothing to remove")
        elif yes or typer.confirm("remove them?"):
            for orphans in found:
                remove(orphans)
            typer.echo("removed")


def load(path: Path, overrides: list[str], *, no_plugins: bool = False) -> "Config":
    """The validated config, its plugins switched off where none is to be imported."""
    from core.config.file import load_config
    from plugins.loading import plugin_problems

    if not no_plugins:
        return load_config(path, overrides, plugin_problems)
    config = load_config(path, overrides)
    typer.echo(f"--no-plugins leaves out: {', '.join(entry.use for entry in config.plugins) or 'none'}", err=True)
    return config.model_copy(
        update={"plugins": tuple(entry.model_copy(update={"enabled": False}) for entry in config.plugins)}
    )


def assemble_bus(
    config: "Config", path: Path, *, trace: Path | None = None, ranks: "Ranks | None" = None
) -> "tuple[Bus, PluginSource]":
    """The sealed bus with every plugin of the config attached; `ranks` are the processes of the run."""
    from core.attached.guards import UndeclaredCollective, handler_guards
    from core.config.tables import PluginSource
    from core.errors import ConfigError
    from events.bus import Bus
    from events.errors import AttachError
    from events.ranks import ALONE
    from plugins.loading import build_plugins, tables_of

    folder, bus = path.resolve().parent, Bus(ranks=ranks or ALONE)
    try:
        plugins = build_plugins(tables_of(config.plugins), folder)
        bus.attach(plugins, where=("training", "worker"))
    except AttachError as error:
        raise ConfigError(str(path), error.problems) from error
    if config.log.time_plugins:
        bus.time_handlers(config.log.slow_seconds)
    if config.log.guard_plugins:
        bus.guard(*handler_guards(), undeclared=(UndeclaredCollective,) if bus.ranks.are_several else ())
    if trace is not None:
        bus.trace(trace)
    bus.seal()
    return bus, PluginSource(build_plugins, tuple(table for _, table in plugins), folder)


def outcome_of(session: "Session", config: "Config", crew: "Crew") -> "Outcome":
    """How the session ended; where it was broken off, or by an error that users can mend, the command ends with its code."""
    from core.config.file import redactor_of
    from core.errors import TrainerError
    from events.errors import PluginError

    try:
        return session.execute()
    except KeyboardInterrupt as error:
        if crew.tell_cause(error, session.interruption.exit_code):
            typer.echo("ended at once; the newest checkpoint stands, and the same command goes on from there", err=True)
        raise typer.Exit(session.interruption.exit_code) from None
    except (TrainerError, PluginError) as error:
        raise typer.Exit(show_error(error, redactor_of(config), crew)) from None


def finished_text(folder: "RunFolder", config: "Config") -> str:
    step = folder.checkpoint.step if folder.checkpoint else 0
    return (
        f"{folder.path} is finished: step {step} of {config.train.steps}.\nIts results lie there. --fresh starts"
        f" {config.run.name} anew under the next number; a higher train.steps goes on with it."
    )


def print_outcome(outcome: "Outcome", bus: "Bus", config: "Config") -> None:
    from core.attached.plan_text import tally_lines
    from core.timing.text import time_lines

    for line in (*tally_lines(bus), *time_lines(outcome.spent, bus, config)):
        typer.echo(line)
    typer.echo(f"{outcome.reason} at step {outcome.step} after {outcome.seconds:.0f} s")
    for what, path in outcome.results:
        typer.echo(f"  {what:<10}{path}")
    if outcome.reason != "complete":
        typer.echo(f"go on with: {shlex.join(command_again())}")


def say(text: str, crew: "Crew", *, err: bool = False) -> None:
    """Once, however many processes there are."""
    if crew.is_main:
        typer.echo(text, err=err)


def is_to_launch(processes: int, place: "Place") -> bool:
    """Whether this process starts others. Raises ConfigError where it is itself one of another number of them."""
    from core.errors import ConfigError

    if place.is_launched and processes not in (1, place.count):
        raise ConfigError(
            "--processes",
            [
                f"{processes} are asked for in a process that a launcher has started as one of {place.count}; name them once"
            ],
        )
    return processes > 1 and not place.is_launched


def launch(processes: int, config: "Config") -> int:
    """This command in several processes; returns its exit code."""
    from core.ranks.launch import launch as launch_processes
    from core.ranks.one_machine import require_devices

    require_devices(processes, config.train.device)
    return launch_processes(processes, [sys.executable, *sys.argv])


def command_again() -> list[str]:
    """What goes on with the run that this command began."""
    return [*invocation(), *(word for word in sys.argv[1:] if word != "--fresh")]


def main() -> int:
    """Run the command line; errors the user can mend are shown without a traceback."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] != "--help"):
        arguments = ["train", *arguments]
    from core.errors import TrainerError
    from core.log.redaction import Redactor
    from events.errors import PluginError

    try:
        app(arguments)
    except (TrainerError, PluginError) as error:
        return show_error(error, Redactor.of({}, os.environ))
    return 0


def show_error(error: "TrainerError | PluginError", redactor: "Redactor", crew: "Crew | None" = None) -> int:
    """Print it without secrets, a plugin's with the traceback of what it raised; returns the exit code.

    Of several processes the one that ended first prints.
    """
    import traceback

    from core.errors import PLUGIN_EXIT_CODE, exit_code_of
    from core.ranks.environment import own_place

    code, place = exit_code_of(error), own_place()
    if place.are_several:
        from core.ranks.crew import is_first_to_tell

        if not is_first_to_tell(error, place, crew):
            return code
        typer.echo(f"rank {place.rank} ends the run:", err=True)
    if code == PLUGIN_EXIT_CODE and error.__cause__ is not None:
        typer.echo(redactor.text("".join(traceback.format_exception(error.__cause__))), err=True, nl=False)
    typer.echo(redactor.text(str(error)), err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
