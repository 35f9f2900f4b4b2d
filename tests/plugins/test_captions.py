"""The caption plugins change a caption as their settings say, and draw from its place alone."""

from events.testing import Harness, sample_context
from plugins.captions import Affix, DropCaption, ShuffleTags

TAGS = "a, b, c, d, e, f, g"


def shuffled(*plugins: ShuffleTags | DropCaption, epoch: int = 0) -> str:
    return Harness(*plugins).apply("sample.caption", TAGS, sample_context(epoch=epoch))


def test_affix_puts_words_around() -> None:
    plugin = Affix(Affix.Settings(prefix="photo of ", suffix=", film"))
    assert Harness(plugin).apply("sample.caption", "a cat", sample_context()) == "photo of a cat, film"


def test_shuffling_keeps_the_first_tags_and_loses_none() -> None:
    tags = shuffled(ShuffleTags(ShuffleTags.Settings(keep=2))).split(", ")
    assert tags[:2] == ["a", "b"]
    assert sorted(tags) == TAGS.split(", ")


def test_shuffling_repeats_at_the_same_place_and_differs_at_another() -> None:
    assert shuffled(ShuffleTags(), epoch=1) == shuffled(ShuffleTags(), epoch=1)
    assert len({shuffled(ShuffleTags(), epoch=epoch) for epoch in range(10)}) > 5


def test_shuffling_does_not_depend_on_other_plugins() -> None:
    never = DropCaption(DropCaption.Settings(probability=0))
    assert shuffled(never, ShuffleTags()) == shuffled(ShuffleTags())


def test_dropping_empties_the_share_it_is_set_to() -> None:
    harness = Harness(DropCaption(DropCaption.Settings(probability=0.25)))
    captions = [harness.apply("sample.caption", "a", sample_context(sample_id=f"{number}")) for number in range(2000)]
    assert abs(captions.count("") / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
