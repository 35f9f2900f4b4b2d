"""The contact sheet as a page: the pictures and captions of each step, and nothing of a user's becomes markup."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from core.pages.document import Facts, Listing, Section, Table, Thumbnail
from core.pages.markup import element, joined
from core.pages.page import picture, section_markup, write_page
from core.pages.thumbnails import picture_of, thumbnail
from core.report.card import card
from core.report.sheet import Sheet
from core.report.wording import Run, wording
from tests.core.reading_pages import Page, assert_stands_alone
from tests.core.surveying import plugin, survey_of

WriteConfig = Callable[..., Path]
HOSTILE = "<script>alert('&')</script> \"quoted\" \x1b[0m \u202e left"


@pytest.fixture
def sheet_of(write_config: WriteConfig, picture_folder: Path, tmp_path: Path) -> Callable[..., Page]:
    """The page of some samples."""

    def make(*overrides: str, plugins: str = "", count: int = 3, root: Path = picture_folder) -> Page:
        path = tmp_path / "look.html"
        with survey_of(write_config(plugins), f"data.root={root}", *overrides) as survey:
            accumulate = survey.config.train.accumulate
            shown = Sheet(survey).samples(count)
            write_page(path, "A look", "at it", (card(number, one, accumulate) for number, one in enumerate(shown, 1)))
        return Page(path)

    return make


def test_each_sample_is_a_card_with_its_steps_in_order(sheet_of: Callable[..., Page]) -> None:
    page = sheet_of(plugins=plugin("plugins.image_color.Gamma", low=2.0, high=2.0) + plugin("Darken"))
    assert len(page.all("article")) == 3
    assert page.text_of("figcaption") == ["Original", "Gamma", "Cut out", "As the model sees it"] * 3
    assert_stands_alone(page)


def test_the_last_picture_is_what_the_model_sees(sheet_of: Callable[..., Page], write_config: WriteConfig) -> None:
    pictures = sheet_of(plugins=plugin("Darken"), count=1).pictures
    with survey_of(write_config(plugin("Darken"))) as survey:
        (shown,) = Sheet(survey).samples(1)
    assert shown.picture is not None
    assert pictures[-1].size == (32, 32)
    assert pictures[-1].tobytes() == picture_of(shown.picture.made.pixels).tobytes()


def test_a_picture_that_a_plugin_leaves_is_not_shown_again(sheet_of: Callable[..., Page]) -> None:
    page = sheet_of(plugins=plugin("plugins.image_color.Gamma", low=1.0, high=1.0), count=1)
    assert "Gamma" in page.text_of("figcaption")
    assert len(page.all("div", "same")) == 1
    assert len(page.all("img")) == 2


def test_what_is_cropped_away_is_marked_on_the_original(sheet_of: Callable[..., Page], tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    Image.new("RGB", (80, 40), "teal").save(folder / "wide.png")
    (crop,) = sheet_of(root=folder).all("div", "crop")
    assert crop["style"] == "left:25.00%;top:0.00%;width:50.00%;height:100.00%"
    assert "cut 16 from the left" in sheet_of(root=folder).text


def test_a_plugin_that_changes_the_size_has_the_crop_on_its_own_picture(sheet_of: Callable[..., Page]) -> None:
    page = sheet_of(plugins=plugin("Widen"), count=1)
    assert [tag for tag, own in page.elements if tag == "img" or own.get("class") == "crop"] == [
        "img", "img", "div", "img",
    ]  # fmt: skip


def test_a_mirrored_sample_says_so(sheet_of: Callable[..., Page]) -> None:
    assert "mirrored" in sheet_of("data.flip_p=1.0", count=1).text
    assert "mirrored" not in sheet_of("data.flip_p=0.0", count=1).text


def test_a_sample_that_a_plugin_turns_over_and_cuts_smaller_says_so(sheet_of: Callable[..., Page]) -> None:
    flip = plugin("plugins.image_crop.Flip", vertical=1.0)
    crop = plugin("plugins.image_crop.CropJitter", scale=0.25, place="same")
    assert "scaled by 1 to 32 × 32, upside down, cut 16 from the left" in sheet_of(plugins=flip + crop, count=1).text
    assert "scaled by 0.5 to 32 × 32" in sheet_of(count=1).text


def test_a_mask_is_laid_over_the_picture(sheet_of: Callable[..., Page], tmp_path: Path) -> None:
    folder = tmp_path / "masked"
    folder.mkdir()
    image = Image.new("RGB", (64, 64), "white")
    alpha = Image.new("L", (64, 64), 255)
    alpha.paste(0, (0, 0, 32, 64))
    image.putalpha(alpha)
    image.save(folder / "half.png")
    page = sheet_of("data.masks=alpha", root=folder, plugins=plugin("plugins.masked_loss.MaskedLoss"))
    assert page.text_of("figcaption")[-1] == "Mask"
    assert "50 % counts" in page.text
    mask = page.pictures[-1]
    assert mask.getpixel((mask.width - 1, 0)) == (255, 255, 255)
    assert mask.getpixel((0, 0)) != (255, 255, 255)


def test_captions_show_what_each_plugin_did(sheet_of: Callable[..., Page], tmp_path: Path) -> None:
    folder = tmp_path / "tagged"
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "a.png")
    (folder / "a.txt").write_text("fox, " + "red fur, " * 20 + "end")
    plugins = plugin("plugins.captions.Affix", prefix="photo of ") + plugin(
        "plugins.captions.DropTags", probability=0.0
    )
    page = sheet_of(root=folder, plugins=plugins)
    assert page.text_of("ins") == ["photo of "]
    assert "unchanged" in page.text
    (cut,) = page.text_of("del")
    assert cut.endswith("red fur, end")
    assert "of 22" in page.text


def test_whatever_is_the_users_is_text(sheet_of: Callable[..., Page], picture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    source = next(picture_folder.rglob("*.png"))
    shutil.copy(source, folder / "<img src=x onerror=alert(1)>.png")
    shutil.copy(source, folder / 'b\udce9".png')
    (folder / "<img src=x onerror=alert(1)>.txt").write_text(HOSTILE)
    page = sheet_of(root=folder, plugins=plugin("plugins.captions.Affix", prefix="<b>"))
    assert_stands_alone(page)
    assert "<script>alert('&')</script>" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "\x1b" not in page.source
    assert "\u202e" not in page.source
    assert page.all("b") == []


def test_a_file_that_cannot_be_read_is_a_card_too(
    write_config: WriteConfig, picture_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(picture_folder, tmp_path / "pictures"))
    with survey_of(write_config(), f"data.root={folder}") as survey:
        path = folder / "birds" / "owl.png"
        path.write_bytes(path.read_bytes()[:300])
        write_page(tmp_path / "a.html", "", "", (card(1, one, 1) for one in Sheet(survey).samples(99)))
    page = Page(tmp_path / "a.html")
    assert len(page.all("article")) == 10
    assert [text for tag, text in page.texts if tag == "p" and "another picture stands in" in text]


def test_sections_become_tables_lists_and_terms(tmp_path: Path) -> None:
    lines = tuple(f"file {number}" for number in range(40))
    section = Section(
        title="A & B",
        blocks=(
            "Words.",
            Facts(rows=(("Pictures", "7"),)),
            Table(columns=("Name", "Count"), rows=(("<b>", 1200), ("c", 0))),
            Listing(title="Many", lines=lines),
        ),
    )
    write_page(tmp_path / "a.html", "T", "S", [section_markup(section)])
    page = Page(tmp_path / "a.html")
    assert page.text_of("h2") == ["A & B"]
    assert (page.text_of("dt"), page.text_of("dd")) == (["Pictures"], ["7"])
    assert page.text_of("td") == ["<b>", "1,200", "c", "0"]
    assert page.text_of("summary") == ["Many"]
    assert page.text_of("li") == list(lines)
    assert_stands_alone(page)


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("before")

    def parts() -> object:
        yield element("p", "one")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_page(path, "", "", parts())  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_markup_is_escaped_once() -> None:
    inner = element("i", "<")
    assert element("p", inner, ">", title='"') == '<p title="&quot;"><i>&lt;</i>&gt;</p>'
    assert joined(inner, "&") == "<i>&lt;</i>&amp;"


def test_small_pictures_stay_as_they_are_and_large_ones_become_small() -> None:
    small, large = thumbnail(Image.new("RGB", (32, 16)), "s"), thumbnail(Image.new("RGB", (1000, 500)), "l")
    assert (small.width, small.height, large.width, large.height) == (32, 16, 160, 80)
    assert small.source.startswith("data:image/png;base64,")
    assert large.source.startswith("data:image/jpeg;base64,")


def test_only_enlarged_pixels_are_kept_sharp() -> None:
    shown = Thumbnail(source="data:image/png;base64,", width=32, height=32, title="t")
    assert 'class="sharp"' in picture(shown, width=64, height=64, sharp=True)
    assert 'class="soft"' in picture(shown, width=64, height=64, sharp=False)
    assert 'class="soft"' in picture(shown, width=32, height=32, sharp=True)


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ("a fox", "a fox", [("same", "a fox")]),
        ("fox", "a fox", [("added", "a "), ("same", "fox")]),
        ("a, b, c", "c, a, b", [("moved", "c"), ("same", ", "), ("same", "a"), ("same", ", "), ("same", "b")]),
        ("a, b", "a", [("same", "a"), ("removed", ", b")]),
        ("", "a", [("added", "a")]),
    ],
)
def test_a_difference_is_told_in_runs(before: str, after: str, runs: list[tuple[str, str]]) -> None:
    found = wording(before, after)
    assert list(found) == [Run(*run) for run in runs]  # type: ignore[arg-type]
    assert "".join(run.text for run in found if run.kind != "removed") == after


def test_the_difference_of_endless_captions_takes_no_time() -> None:
    before = " ".join(map(str, range(50_000)))
    assert wording(before, before + " more") == (Run("added", before + " more"),)
    tags = [f"t{number}" for number in range(50_000)]
    assert "".join(run.text for run in wording(", ".join(tags), ", ".join(tags[::-1]))) == ", ".join(tags[::-1])
