"""The sections of a report, in order."""

from ..config.tables import Config
from ..errors import DataError
from ..pages.document import Block, Facts, Listing, Section, Table, counted, number
from .batches import Bucket, bucket_section, count_buckets
from .effects import Effects
from .galleries import gallery_section
from .items import ItemFacts, caption_blocks, masks_in_use, setting_section, source_section
from .lengths import length_blocks
from .problems import list_problems, problem_section
from .survey import Survey

LISTED = "data` lists all"
"""How an error ends that leaves problems out."""


def report(survey: Survey, effects: Effects, *, with_pictures: bool) -> list[Section]:
    """Everything; `effects` has watched the items and the plan, and goes on to the samples.

    Where a plugin fails on these, the report says so and leaves out what plugins would have made. Raises PluginError
    for one that fails on another sample.
    """
    config, training = survey.config, survey.sets.training
    facts = ItemFacts.of(training.items)
    buckets = count_buckets(survey.plan, training, config.train.batch_size, config.data.resolution)
    effects.measure(survey)
    works = effects.failure is None
    captions = Section(title="Captions", blocks=(*caption_blocks(facts), *length_blocks(survey, with_plugins=works)))
    galleries = [gallery_section(survey, buckets)] if with_pictures and works else []
    return [
        overview(survey, facts, buckets),
        *([problem_section(survey.sets.problems)] if survey.sets.problems else []),
        source_section(facts, config),
        captions,
        bucket_section(survey, buckets),
        *galleries,
        *([validation_section(survey)] if survey.sets.validation else []),
        setting_section(facts, survey.bus),
        effects.section(survey.bus),
    ]


def report_of_unusable(config: Config, error: DataError) -> list[Section]:
    """What there is to say of data that cannot be trained on, the whole error included."""
    problems = list_problems(config)
    headline, *rest = str(error).splitlines()
    told = {str(problem) for problem in problems}
    lines = [
        line.strip() for line in rest
        if line.strip() not in told and not (problems and line.endswith(LISTED))
    ]  # fmt: skip
    blocks: list[Block] = [headline.rstrip(":.") + "."]
    if lines:
        blocks.append(Listing(title="Which they are", lines=tuple(lines)))
    said = Section(title="These data cannot be trained on", blocks=tuple(blocks))
    return [said, problem_section(problems)] if problems else [said]


def overview(survey: Survey, facts: ItemFacts, buckets: tuple[Bucket, ...]) -> Section:
    """The numbers that are read first."""
    config, steps = survey.config, survey.steps_in_epoch
    held = sum(len(data.items) for data in survey.sets.validation.values())
    rows = (
        ("Pictures", number(len(survey.sets.training.items))),
        ("Set aside", number(len(survey.sets.problems))),
        ("For validation", number(held)),
        ("Masks", masks_in_use(facts, config)),
        ("Sizes", number(len(buckets))),
        ("Samples an epoch", number(sum(bucket.samples for bucket in buckets))),
        ("Batches an epoch", number(len(survey.plan))),
        ("Steps an epoch", number(steps)),
        ("Steps of the run", number(config.train.steps)),
        ("Epochs of the run", number(round(config.train.steps / steps, 2))),
    )
    accumulate = counted(config.train.accumulate, "batch", "batches")
    said = f"Batches of {config.train.batch_size}, {accumulate} a step."
    return Section(title="At a glance", blocks=(Facts(rows=rows), said))


def validation_section(survey: Survey) -> Section:
    """The sets that the loss is measured on."""
    rows = tuple(
        (
            name,
            len(data.items),
            len(set(data.geometry.index[:, 0].tolist())),
            sum(not item.caption for item in data.items),
        )
        for name, data in survey.sets.validation.items()
    )
    blocks: list[Block] = [Table(columns=("Set", "Pictures", "Sizes", "No caption"), rows=rows)]
    return Section(title="Validation", blocks=tuple(blocks))
