"""A picture of a run's live view, for the docs: ``python -m tests.core.view.picture runs/demo docs/images/live-view.png``."""

import argparse
import sys
from pathlib import Path

from tests.core.view.browsing import DESKTOP, PHONE, browser, window
from tests.core.view.serving import served

SETTLED_MS = 800
"""Until pictures are loaded and lines drawn."""


def take_picture(run: Path, target: Path, *, dark: bool = False, phone: bool = False, height: int = 0) -> None:
    """Of the page's first `height` CSS pixels; 0: of all of it."""
    size, sharpness = (PHONE, 2.0) if phone else (DESKTOP, 1.25)
    if height:
        size = (size[0], height)
    with (
        served(run) as server, browser() as chromium,
        window(chromium, server.address.with_token, size=size, dark=dark, sharpness=sharpness) as found,
    ):  # fmt: skip
        if not height:  # pictures further down are loaded when they come into view
            whole = int(found.page.evaluate("document.body.scrollHeight"))
            found.page.set_viewport_size({"width": size[0], "height": whole})
        found.page.wait_for_timeout(SETTLED_MS)
        found.page.screenshot(path=target)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--dark", action="store_true")
    arguments.add_argument("--phone", action="store_true")
    arguments.add_argument(
        "--height", type=int, default=0, help="CSS pixels from the top; all of the page when left out"
    )
    asked = arguments.parse_args()
    take_picture(asked.run, asked.target, dark=asked.dark, phone=asked.phone, height=asked.height)
    return 0


if __name__ == "__main__":
    sys.exit(main())
