"""The page of a run in a real browser: it shows the run as it goes on, asks it for things, and outlives its end.

The tests look at one run, which the one before the last stops.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser

from tests.core.view.browsing import PHONE, SECONDS, Window, browser, window
from tests.core.view.plugins_for_view import MARKUP
from tests.small_runs import CONFIG, ROOT, sets

PLUGINS = """
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "tests.core.view.plugins_for_view.Slowly"
[[plugins]]
use = "plugins.live_view.LiveView"
port = 0
"""
LONG = ("train.steps=100000", "checkpoint.every_steps=0", "preview.every_steps=25", "preview.at_start=true",
        "validation.fraction=0.3", "validation.every_steps=20")  # fmt: skip
SHOWN = "live view: "


@dataclass
class LiveRun:
    """A process that trains, and the address that it has printed."""

    process: "subprocess.Popen[str]"
    folder: Path
    url: str

    @property
    def without_token(self) -> str:
        return self.url.partition("#")[0]


@contextmanager
def begun(command: list[str], folder: Path) -> Generator[LiveRun, None, None]:
    """A process as soon as it has printed its address; what else it prints is read and lost."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith(SHOWN) and "#token=" in line:
                    break
            assert said[-1].startswith(SHOWN), "".join(said)
            Thread(target=process.stdout.read, daemon=True).start()
            yield LiveRun(process, folder, said[-1].removeprefix(SHOWN).strip())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def new_run(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path
) -> Callable[[], AbstractContextManager[LiveRun]]:
    def begin() -> AbstractContextManager[LiveRun]:
        home = tmp_path_factory.mktemp("live")
        places = {"dir": home / "runs", "model": model_folder, "data": picture_folder, "cache": home / "cache"}
        config = home / "config.toml"
        config.write_text(CONFIG.format(**{key: json.dumps(str(value)) for key, value in places.items()}) + PLUGINS)
        command = [sys.executable, str(ROOT / "run.py"), "train", str(config), *sets(LONG)]
        return begun(command, home / "runs" / "test")

    return begin


@pytest.fixture(scope="module")
def run(new_run: Callable[[], AbstractContextManager[LiveRun]]) -> Iterator[LiveRun]:
    """One that goes on for as long as the tests of this file."""
    with new_run() as run:
        yield run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture
def open_page(chromium: Browser) -> Callable[..., AbstractContextManager[Window]]:
    """Nothing may go wrong on a page that is left."""

    @contextmanager
    def opened(url: str, **options: object) -> Generator[Window, None, None]:
        with window(chromium, url, **options) as found:  # type: ignore[arg-type]  # its options
            yield found
            assert found.said == []

    return opened


@pytest.fixture
def look(
    run: LiveRun, open_page: Callable[..., AbstractContextManager[Window]]
) -> Callable[..., AbstractContextManager[Window]]:
    return partial(open_page, run.url)


Look = Callable[..., AbstractContextManager[Window]]
HAS_CURVES = "document.querySelector('[data-chart=throughput] canvas') !== null"
HAS_ROUNDS = "Number(document.querySelector('#master input').max) >= 2"
FIRST_PICTURE = "document.querySelector('.tile img')"


def test_its_charts_are_drawn(look: Look) -> None:
    with look() as page:
        page.until(HAS_CURVES)
        for chart in ("loss", "rates", "norm", "throughput"):
            drawn = page.ink(f"[data-chart={chart}] canvas", "c0") + page.ink(f"[data-chart={chart}] canvas", "c1")
            assert drawn > 10, chart  # the learning rates lie upon each other, and one value is a dot
        assert page.ink("[data-chart=loss] canvas", "c1") > 10  # the validation set
        assert re.match(r"training \d\.\d+\nheld out \d\.\d+$", page.text("[data-chart=loss] .keys"))


def test_it_changes_as_the_run_does(look: Look) -> None:
    with look() as page:
        assert page.text("#state") == "running"
        before = page.text("#far")
        page.until(f"document.querySelector('#far').textContent !== {before!r}")
        assert re.fullmatch(r"step [\d,]+ of 100,000 · .* left", page.text("#far"))
        rounds = int(page.page.evaluate("document.querySelector('#master input').max"))
        page.until(f"Number(document.querySelector('#master input').max) > {rounds}")


def test_sliders_turn_the_pictures(look: Look) -> None:
    with look() as page:
        page.until(HAS_ROUNDS)
        page.until(f"{FIRST_PICTURE}.naturalWidth === 32")
        newest = page.page.locator(".tile img").first.get_attribute("src")
        page.page.locator(".tile input").first.press("Home")
        assert str(page.page.locator(".tile img").first.get_attribute("src")).startswith("/previews/0/")
        assert not str(page.page.locator(".tile img").nth(1).get_attribute("src")).startswith("/previews/0/")
        page.page.locator("#master input").press("Home")
        assert str(page.page.locator(".tile img").nth(1).get_attribute("src")).startswith("/previews/0/")
        page.page.locator("#master input").press("ArrowRight")
        assert page.text("#master output") == "step 25"
        assert page.page.locator(".tile img").first.get_attribute("src") != newest
        page.until(f"{FIRST_PICTURE}.complete && {FIRST_PICTURE}.naturalWidth === 32")


def test_a_picture_is_looked_at_closely_and_arrows_go_to_others(look: Look) -> None:
    with look() as page:
        page.until(HAS_ROUNDS)
        page.page.locator("#master input").press("Home")
        page.page.locator(".tile .look").first.click()
        first = page.text("#large figcaption b")
        page.page.keyboard.press("ArrowRight")
        assert page.text("#large output") == "25"
        page.page.keyboard.press("ArrowDown")
        assert page.text("#large output") == "25"
        assert page.text("#large figcaption b") != first
        page.page.keyboard.press("Escape")
        assert not page.page.locator("#large").is_visible()


def test_losses_are_drawn_on_a_logarithmic_scale_too(look: Look) -> None:
    with look() as page:
        page.until(HAS_CURVES)
        page.page.locator("#logarithmic").check()
        assert page.ink("[data-chart=loss] canvas", "c0") > 50


def test_a_stretch_is_dragged_out_and_given_back(look: Look) -> None:
    pressed = "document.querySelectorAll('#range [aria-pressed=true]').length"
    with look() as page:
        page.until(HAS_CURVES)
        page.page.locator("[data-chart=loss]").scroll_into_view_if_needed()
        box = page.page.locator("[data-chart=loss] .u-over").bounding_box()
        assert box is not None
        left, middle = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
        page.page.mouse.move(left, middle)
        page.page.mouse.down()
        page.page.mouse.move(left + box["width"] / 3, middle, steps=5)
        page.page.mouse.up()
        page.until(f"{pressed} === 0")
        page.page.mouse.dblclick(left, middle)
        page.until(f"{pressed} === 1")


def test_a_reload_keeps_what_was_chosen_and_the_right_to_ask(look: Look) -> None:
    with look() as page:
        page.until(HAS_ROUNDS)
        assert "token" not in page.page.url
        page.page.locator("#smoothing").press("End")
        page.page.locator("#master input").press("Home")
        page.page.locator("#level").select_option("debug")
        page.page.reload()
        page.until(HAS_ROUNDS)
        assert page.page.locator("#smoothing").input_value() == "0.99"
        assert page.text("#master output") == "step 0"
        assert page.page.locator("#level").input_value() == "debug"
        assert page.page.locator("[data-wish=save]").is_enabled()


def test_without_the_token_it_shows_everything_and_asks_for_nothing(
    run: LiveRun, open_page: Callable[..., AbstractContextManager[Window]]
) -> None:
    with open_page(run.without_token) as page:
        page.until(HAS_CURVES)
        assert page.count("#buttons button:disabled") == 4
        assert "need the token" in page.text("#notices")


def test_what_a_run_says_is_text_and_never_markup(look: Look) -> None:
    with look() as page:
        page.until("document.querySelectorAll('#lines li').length > 3")
        page.page.locator("#find").fill("markup says")
        (line,) = page.page.locator("#lines .text").all_inner_texts()
        assert MARKUP in line
        assert page.count("#markup") == 0


def test_the_plan_has_times_and_warnings_of_each_plugin(look: Look) -> None:
    with look() as page:
        row = page.page.locator("#plan tr", has_text="Slowly").first
        page.until(
            "/\\d s|ms/.test([...document.querySelectorAll('#plan tr')].find(row => row.textContent.startsWith('Slowly')).textContent)"
        )
        assert row.locator(".warned").inner_text() == "1"
        page.page.locator("#plan summary").click()
        assert "step.end" in page.text("#plan details")


def test_the_data_is_told(look: Look) -> None:
    with look() as page:
        page.until("document.querySelector('#trained .bars') !== null")
        assert page.text("#trained .bars").split() == ["32", "×", "32", "5"]


def test_a_button_has_the_run_render_previews(look: Look) -> None:
    with look() as page:
        page.page.locator("[data-wish=preview]").click()
        page.until(
            "[...document.querySelectorAll('#lines .text')].some(line => line.textContent === 'preview: asked in the live view (asked by LiveView)')"
        )
        page.until("!document.querySelector('[data-wish=preview]').classList.contains('waiting')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone_by_day_and_by_night(look: Look, dark: bool) -> None:
    with look(size=PHONE, dark=dark) as page:
        page.until(HAS_CURVES)
        page.until("document.querySelector('.tile img') !== null")
        page.page.locator("#plan summary").click()
        assert page.overflow() == 0
        assert page.ink("[data-chart=loss] canvas", "c0") > 50
        shade = sum(
            int(part)
            for part in re.findall(r"\d+", page.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        )
        assert (shade < 200) == dark
        assert page.page.locator("[data-wish=stop]").is_visible()


def test_a_button_stops_the_run_the_page_outlives_it_and_its_files_are_served_again(
    new_run: Callable[[], AbstractContextManager[LiveRun]],
    open_page: Callable[..., AbstractContextManager[Window]],
) -> None:
    with new_run() as run, open_page(run.url) as page:
        page.until(HAS_CURVES)
        page.page.locator("[data-wish=stop]").click()
        page.page.locator("#stop-dialog [value=stop]").click()
        page.until("document.querySelector('#state').textContent === 'stopped'")
        page.until("document.querySelector('#notices').textContent.includes('run.py view')")
        assert "asked in the live view" in page.text("#notices")
        assert page.count("#buttons button:disabled") == 4
        assert page.ink("[data-chart=loss] canvas", "c0") > 50
        assert run.process.wait(SECONDS) == 0
    (checkpoint,) = (run.folder / "checkpoints").glob("step-*")
    assert json.loads((checkpoint / "state.json").read_text())
    command = [sys.executable, str(ROOT / "run.py"), "view", str(run.folder), "--port", "0"]
    with begun(command, run.folder) as again, open_page(again.url) as page:
        page.until(HAS_CURVES)
        page.until(f"{FIRST_PICTURE}.naturalWidth === 32")
        assert page.text("#state") == "stopped"
        assert page.page.locator("[data-wish=save]").get_attribute("title") == "The run is over"
        assert page.ink("[data-chart=loss] canvas", "c0") > 50
