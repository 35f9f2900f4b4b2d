"""kohya's dataset_config: values that hold for all, for a data set or for a folder, and what becomes of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..errors import ConfigError
from .counting import Shown
from .kohya_pictures import ARGUMENT_NAMES, DEFAULTS, OF_ITEMS, RULES
from .ours import DROP_CAPTION, MASKED_LOSS, PRIOR_PRESERVATION, SHUFFLE_TAGS
from .outcome import OFF, UNKNOWN, Outcome, Row, already, became_all, by_hand, lacking
from .rules import Facts, Problems, WrongValue, flag, is_off, listed, number, rule_for, table, text

OF_SUBSETS = ("image_dir", "metadata_file", "is_reg", "class_tokens", "num_repeats", "conditioning_data_dir")
"""Keys that say something of one folder."""
MASKS = Outcome(
    kind="by hand",
    keys={"data.masks": "sidecar"},
    plugins={MASKED_LOSS: {}},
    remark="put the masks beside their pictures, as name.mask.png",
)
FOLDERS = ("train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir")
"""Arguments that name pictures where there is no dataset_config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A table, or the arguments, with its place as a report names it."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A folder or a list with all that holds for it, the outermost level first."""

    levels: tuple[Level, ...]

    def __getitem__(self, key: str) -> Any:
        level = self.level_of(key)
        return DEFAULTS.get(key) if level is None else level.values[key]

    def level_of(self, key: str) -> Level | None:
        """The one that has the say."""
        return next((level for level in reversed(self.levels) if level.values.get(key) is not None), None)

    @property
    def is_regularization(self) -> bool:
        return not is_off(self["is_reg"])

    @property
    def folder(self) -> str:
        """Where its pictures lie."""
        if self["image_dir"] is None and self["metadata_file"] is not None:
            path = str(self["metadata_file"])
            return str((PureWindowsPath if "\\" in path else PurePosixPath)(path).parent)
        return str(self["image_dir"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """All that was said of pictures."""

    file: str
    """Of the dataset_config; empty without one."""
    levels: tuple[Level, ...]
    """Tables of the dataset_config."""
    subsets: tuple[Subset, ...]
    facts: Facts

    @property
    def trained(self) -> tuple[Subset, ...]:
        return tuple(subset for subset in self.subsets if not subset.is_regularization)

    def shown(self) -> tuple[Shown, ...]:
        """How often an epoch shows each root."""
        return tuple(
            Shown(
                root=str(one["metadata_file"] or one["image_dir"]), times=number(one["num_repeats"]),
                balances=one.is_regularization,
            )
            for one in self.subsets
        )  # fmt: skip


def read_pictures(file: str, tree: Mapping[str, Any], arguments: Mapping[str, Any]) -> Pictures:
    """Of a dataset_config and of arguments. Raises ConfigError for a config without pictures to train on."""
    outermost = Level(place="", values={ARGUMENT_NAMES.get(key, key): value for key, value in arguments.items()})
    try:
        general = Level(place="general", values=table(tree.get("general", {})))
        levels, subsets = [general] if general.values else [], []
        for number_of, one in enumerate(listed(tree.get("datasets", ()))):
            place = f"datasets[{number_of}]"
            dataset = Level(place=place, values={key: value for key, value in table(one).items() if key != "subsets"})
            inner = [
                Level(place=f"{place}.subsets[{n}]", values=table(values))
                for n, values in enumerate(listed(one.get("subsets", ())))
            ]
            levels += [dataset, *inner]
            subsets += [Subset(levels=(outermost, general, dataset, level)) for level in inner]
    except WrongValue as error:
        raise ConfigError(file, [f"general, datasets or subsets: {error}"]) from None
    if not file:
        subsets = list(_of_arguments(outermost))
    trained = [subset for subset in subsets if not subset.is_regularization]
    if file and not trained:
        raise ConfigError(file, ["has no [[datasets.subsets]] with pictures to train on"])
    return Pictures(file=file, levels=tuple(levels), subsets=tuple(subsets), facts=_facts(outermost, tuple(trained)))


def _of_arguments(outermost: Level) -> Iterator[Subset]:
    values = outermost.values
    if values.get("in_json") or values.get("train_data_dir"):
        key = "metadata_file" if values.get("in_json") else "image_dir"
        named = Level(place="", values={key: values.get("in_json") or values.get("train_data_dir")})
        yield Subset(levels=(outermost, named))
    if values.get("reg_data_dir"):
        yield Subset(levels=(outermost, Level(place="", values={"image_dir": values["reg_data_dir"], "is_reg": True})))


def _facts(outermost: Level, trained: tuple[Subset, ...]) -> Facts:
    """What holds for the first folder, which is what the config says for all."""
    values: dict[str, Any] = dict(outermost.values)
    for level in trained[0].levels if trained else ():
        values |= {key: value for key, value in level.values.items() if value is not None}
    values["all_resolutions"] = [subset["resolution"] for subset in trained if subset["resolution"] is not None]
    return Facts(values=values, defaults=DEFAULTS)


def rows_of_pictures(pictures: Pictures) -> tuple[Row, ...]:
    """A row for each key of the dataset_config. Raises ConfigError for values of the wrong kind."""
    rows: list[Row] = []
    problems = Problems(pictures.file)
    for level in pictures.levels:
        for key, value in level.values.items():
            name = f"{level.place}.{key}"
            try:
                rows.append(
                    Row(file=pictures.file, key=name, value=value, outcome=outcome_of(key, value, level, pictures))
                )
            except WrongValue as error:
                problems.add(name, value, error)
    problems.raise_if_any()
    return tuple(rows)


def outcome_of(key: str, value: Any, level: Level, pictures: Pictures) -> Outcome:
    """What becomes of a key at one level, which may hold for some folders and not for others."""
    if key in OF_SUBSETS:
        return _of_subsets(key, value, level, pictures)
    rule = rule_for(key, RULES)
    if rule is None:
        return UNKNOWN
    outcome = rule(value, pictures.facts)
    readers = [subset for subset in pictures.subsets if subset.level_of(key) is level or not subset.levels]
    if not pictures.file or not level.place or key == "resolution" or value == pictures.facts[key]:
        return outcome
    trained = [subset for subset in readers if not subset.is_regularization]
    if not readers:
        return already("each folder says otherwise")
    if not trained:
        return lacking("regularization pictures are made like the others")
    return _for_some(key, value, trained, pictures)


def _for_some(key: str, value: Any, subsets: list[Subset], pictures: Pictures) -> Outcome:
    """Of folders that differ from the first, which the config follows."""
    if key not in OF_ITEMS:
        return lacking(f"the config has one value for all, {pictures.facts[key]!r} as for the first folder")
    name, convert = OF_ITEMS[key]
    outcome = by_hand(_in_folders(f"{name}: {convert(value)}", subsets))
    needed = {"flip_aug": "", "caption_dropout_rate": DROP_CAPTION, "shuffle_caption": SHUFFLE_TAGS}.get(key, "")
    off = {"probability": 0.0} if needed == DROP_CAPTION else {"always": False}
    is_used = not is_off(pictures.facts[key])
    return outcome if is_used or not needed else Outcome(kind="by hand", plugins={needed: off}, remark=outcome.remark)


def _in_folders(line: str, subsets: list[Subset]) -> str:
    return f"write `{line}` into local.yaml in {' and in '.join(subset.folder for subset in subsets)}"


def _of_subsets(key: str, value: Any, level: Level, pictures: Pictures) -> Outcome:
    readers = [subset for subset in pictures.subsets if subset.level_of(key) is level]
    if not readers:
        return already("each folder says otherwise")
    if key == "num_repeats":
        return _repeats(value, readers, pictures)
    if key == "class_tokens":
        return by_hand(_in_folders(f"main_prompt: {text(value)}", readers) + ", for pictures without a caption")
    if key == "conditioning_data_dir":
        text(value)
        return MASKS
    if key == "is_reg":
        return already("plugins.prior_preservation.PriorPreservation has its folder") if flag(value) else OFF
    return _source(key, text(value), readers[0], pictures)


def _source(key: str, path: str, subset: Subset, pictures: Pictures) -> Outcome:
    """A folder or a list of pictures."""
    if subset.is_regularization:
        first = next(one for one in pictures.subsets if one.is_regularization)
        if first is not subset:
            return by_hand(f"put {path} into {first.folder}, since one folder has them all")
        return _regularization(path)
    if key == "image_dir" and subset["metadata_file"] is not None:
        return already("the list's own folder has its pictures; move the list there if it has not")
    return became_all({"data.root": [path]}, remark="" if key == "metadata_file" else "folders inside are read too")


def _regularization(path: str) -> Outcome:
    return became_all({"data.root": [path]}, {PRIOR_PRESERVATION: {"folder": path}})


def _repeats(value: Any, readers: list[Subset], pictures: Pictures) -> Outcome:
    times = number(value)
    counts = {number(subset["num_repeats"]) for subset in pictures.trained}
    trained = [subset for subset in readers if not subset.is_regularization]
    if not trained:
        return lacking("regularization pictures are shown as often as the others")
    if len(counts) == 1:
        return already("all are repeated alike, which makes an epoch longer and a run of so many steps no other")
    if times == 1:
        return already("each picture is shown once an epoch")
    return by_hand(_in_folders(f"multiply: {times:g}", trained))


def folder_of_arguments(key: str, value: Any, pictures: Pictures) -> Outcome:
    """An argument that names pictures; a dataset_config has the say where there is one."""
    path = text(value)
    if pictures.file:
        return already("the dataset_config has the say")
    if key == "conditioning_data_dir":
        return MASKS
    if key == "reg_data_dir":
        return _regularization(path)
    if key == "in_json":
        return became_all({"data.root": [path]})
    if any(subset["metadata_file"] is not None for subset in pictures.subsets):
        return already("in_json lists the pictures; move it into their folder if it lies elsewhere")
    return became_all({"data.root": [path], "data.layout": "kohya"})
