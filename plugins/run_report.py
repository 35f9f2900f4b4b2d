"""A report of the run as a page, once it is over."""

import logging

from events import Plugin, on
from events.payloads import RunClose

log = logging.getLogger("signalbox.run")


class RunReport(Plugin):
    """Write `<run>/report.html` when the run is over, however it ended: curves, previews, times, data, plan and warnings.

    The page is one file without scripts, made of what the run has written. `python run.py report NAME` makes the same of
    any run at any time. A report that cannot be written is told of in the log, and that is all.
    """

    @on("run.close", priority=95)
    def write(self, event: RunClose) -> None:
        from core.history.page import FILE, write_report
        from core.history.reading import read_run

        path = event.run.folder / FILE
        write_report(read_run(event.run.folder), path)
        log.info("report %s", path)
