"""The commands that look back at runs: they read a run's files, and need neither its config, its plugins nor its model."""

from pathlib import Path
from typing import Annotated

import typer


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="of runs; left out: run.dir of config.toml, or runs/")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a list of objects, for scripts")] = False,
) -> None:
    """List the runs of a folder, the newest first, and how to go on with those that are not complete."""
    from ..pages.terminal import print_report
    from . import listing
    from .places import runs_folder

    place = folder or runs_folder()
    listed = listing.list_runs(place)
    if as_json:
        typer.echo(listing.as_json(listed))
        return
    print_report(listing.listing_sections(listed, place))
    for line in listing.going_on(listed):
        typer.echo(line)


def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="name or folder of a run")],
    other: Annotated[str, typer.Argument(metavar="B", help="name or folder of another")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page instead, with curves and previews")
    ] = None,
) -> None:
    """Say in what two runs differ: settings, code, data, and curves to the last digit."""
    from ..pages.terminal import print_report
    from .compare_report import compare_sections, write_comparison
    from .places import find_folder
    from .reading import read_run

    left, right = (read_run(find_folder(name)) for name in (one, other))
    if html is None:
        print_report(compare_sections(left, right))
        return
    write_comparison(left, right, html)
    typer.echo(f"{html}")


def report(
    run: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="a run, whether it goes on or is over")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="where the page goes; left out: report.html in the run's folder")
    ] = None,
) -> None:
    """Write a run's report as a page that is one file: curves, previews, times, data, plan, config and warnings."""
    from .page import FILE, write_report
    from .places import find_folder
    from .reading import read_run

    folder = find_folder(run)
    path = html or folder / FILE
    write_report(read_run(folder), path)
    typer.echo(f"{path}")
