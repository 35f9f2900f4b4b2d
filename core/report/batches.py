"""One epoch's batches by the size of their pictures."""

from dataclasses import dataclass
from typing import Any

import numpy

from events.payloads import STAND_IN

from ..data.buckets import Size
from ..data.plan import Plan
from ..data.sets import DataSet
from ..pages.document import Block, Cell, Section, Table, counted
from .survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The pictures of one size in one epoch."""

    number: int
    """Into the geometry's sizes."""
    size: Size
    resolutions: tuple[int, ...]
    """Those of data.resolution that have this size."""
    pictures: int
    """Different ones."""
    samples: int
    """Pictures shown, without the copies that fill batches."""
    batches: int
    short: int
    """Batches with fewer samples than a whole one."""
    copies: int
    repeats: int
    """Samples of pictures that the epoch has shown before."""
    enlarged: int
    """Pictures that are smaller than the size."""


def count_buckets(plan: Plan, data: DataSet, batch_size: int, resolutions: tuple[int, ...]) -> tuple[Bucket, ...]:
    """The buckets of an epoch's plan, by width and height."""
    geometry = data.geometry
    sizes = geometry.buckets_of(plan.items, plan.epochs, plan.repeats)
    copies = plan.variants % STAND_IN > 0
    starts = numpy.concatenate([[0], plan.ends[:-1]])
    whole = numpy.add.reduceat(~copies, starts) >= batch_size
    found = [
        _bucket(number, data, plan, (sizes == number), copies, ~whole[sizes[starts] == number], resolutions)
        for number in numpy.unique(sizes).tolist()
    ]
    return tuple(sorted(found, key=lambda bucket: bucket.size))


def _bucket(
    number: int, data: DataSet, plan: Plan, own: Any, copies: Any, short: Any, resolutions: tuple[int, ...]
) -> Bucket:
    size, index = data.geometry.sizes[number], data.geometry.index
    items = numpy.unique(plan.items[own])
    return Bucket(
        number=number, size=size, pictures=len(items), samples=int((own & ~copies).sum()), batches=len(short),
        resolutions=tuple(each for each, column in zip(resolutions, index.T, strict=True) if number in column),
        short=int(short.sum()), copies=int((own & copies).sum()),
        repeats=int((own & ~copies & (plan.repeats > 0)).sum()),
        enlarged=int((data.items.sizes[items] < numpy.array(size)).any(axis=1).sum()),
    )  # fmt: skip


def bucket_section(survey: Survey, buckets: tuple[Bucket, ...]) -> Section:
    """The sizes of one epoch."""
    data, several = survey.config.data, len(survey.config.data.resolution) > 1
    rows = tuple(_row(bucket, several=several) for bucket in buckets)
    columns = (
        "Size", *(["Resolution"] if several else []), "Pictures", "Shown", "Batches", "Short", "Copies", "Repeats",
        "Enlarged",
    )  # fmt: skip
    blocks: list[Block] = [Table(columns=columns, rows=rows)]
    short = sum(bucket.short for bucket in buckets)
    if short:
        done = "filled with copies that share their weight" if data.short_batches == "fill" else "kept short"
        blocks.append(
            f"{counted(short, 'batch', 'batches')} with fewer than {survey.config.train.batch_size} different samples"
            f" {'is' if short == 1 else 'are'} {done} (data.short_batches = '{data.short_batches}')."
        )
    if several:
        listed = ", ".join(map(str, data.resolution))
        blocks.append(f"The resolutions {listed} take turns: in the next epoch a picture has another size.")
    if enlarged := sum(bucket.enlarged for bucket in buckets):
        blocks.append(
            f"{counted(enlarged, 'picture is', 'pictures are')} smaller than the size and enlarged;"
            " data.no_upscale = true gives them sizes of their own."
        )
    return Section(title=f"Sizes and batches of epoch {survey.epoch}", blocks=tuple(blocks))


def _row(bucket: Bucket, *, several: bool) -> tuple[Cell, ...]:
    resolutions = [", ".join(map(str, bucket.resolutions))] if several else []
    return (
        f"{bucket.size[0]} × {bucket.size[1]}", *resolutions, bucket.pictures, bucket.samples, bucket.batches,
        bucket.short, bucket.copies, bucket.repeats, bucket.enlarged,
    )  # fmt: skip
