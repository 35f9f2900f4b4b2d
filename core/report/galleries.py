"""Some pictures of each size, as the model sees them."""

from collections.abc import Iterator

import numpy

from events.payloads import SampleKey

from ..pages.document import Gallery, Section, Thumbnail, counted
from ..pages.thumbnails import picture_of, thumbnail
from .batches import Bucket
from .survey import Survey, spread

IN_GALLERY = 8
"""Pictures shown of one size."""
MOST_GALLERIES = 24


def gallery_section(survey: Survey, buckets: tuple[Bucket, ...]) -> Section:
    """Some pictures of each size, as the model sees them."""
    largest = sorted(buckets, key=lambda bucket: -bucket.samples)[:MOST_GALLERIES]
    galleries = tuple(_gallery(survey, bucket) for bucket in buckets if bucket in largest)
    more = len(buckets) - len(galleries)
    said = ("As the model sees them.",) + (
        (f"{counted(more, 'further size is', 'further sizes are')} left out.",) if more else ()
    )
    return Section(title="Pictures by size", blocks=(" ".join(said), *galleries))


def _gallery(survey: Survey, bucket: Bucket) -> Gallery:
    title = f"{bucket.size[0]} × {bucket.size[1]}: {counted(bucket.pictures, 'picture')}"
    return Gallery(title=title, pictures=tuple(_pictures(survey, bucket)))


def _pictures(survey: Survey, bucket: Bucket) -> Iterator[Thumbnail]:
    plan, maker = survey.plan, survey.maker
    sizes = maker.geometry.buckets_of(plan.items, plan.epochs, plan.repeats)
    first = numpy.unique(numpy.where(sizes == bucket.number, plan.items, -1), return_index=True)
    places = [place for item, place in zip(*(column.tolist() for column in first), strict=True) if item >= 0]
    for place in (places[number] for number in spread(len(places), IN_GALLERY)):
        key = SampleKey(*(int(column[place]) for column in (plan.epochs, plan.items, plan.repeats, plan.variants)))
        item = maker.items[key.item]
        try:
            picture = maker.read_file(item, bucket.size)
        except Exception:  # noqa: S112  # Pillow raises many kinds; such files are named elsewhere on the page
            continue
        yield thumbnail(picture_of(maker.picture(key, item, picture).pixels), item.id)
