"""What is trained, and how fast, by name: one group a module, cut by rules of which the last that matches counts."""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.config.tables import ParameterRule, TrainTable
from core.errors import ConfigError
from core.step.parameter_groups import parameter_groups
from events.payloads import ParameterGroup
from tests.small_runs import Run, assert_same_state


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.norm = nn.GroupNorm(1, 2)


class Denoiser(nn.Module):
    """A model whose names look like those of a UNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(2, 2, 1)
        self.down_blocks = nn.ModuleList([Block(), Block()])
        self.up_blocks = nn.ModuleList([Block()])


def modules() -> dict[str, nn.Module]:
    return {"unet": Denoiser(), "text_encoder": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "vae": nn.Linear(1, 1)}


def grouped(
    *rules: Mapping[str, Any], of: dict[str, nn.Module] | None = None, **settings: Any
) -> dict[str, ParameterGroup]:
    table = TrainTable(learning_rate=1.0, weight_decay=0.1, parameters=rules, **settings)  # type: ignore[arg-type]
    groups = parameter_groups(of or modules(), ("unet", "text_encoder"), "unet", table)
    assert len({group.name for group in groups}) == len(groups)
    return {group.name: group for group in groups}


def numbers(groups: Mapping[str, ParameterGroup]) -> dict[str, tuple[float, float]]:
    return {name: (group.learning_rate, group.weight_decay) for name, group in groups.items()}


def test_without_rules_there_is_a_group_for_each_trained_module() -> None:
    groups = grouped(text_encoder_learning_rate=0.5)
    assert numbers(groups) == {"unet": (1.0, 0.1), "text_encoder": (0.5, 0.1)}
    assert set(groups["text_encoder"].parameters) == {
        "text_encoder.0.weight", "text_encoder.0.bias", "text_encoder.1.weight", "text_encoder.1.bias"
    }  # fmt: skip
    assert len(groups["unet"].parameters) == 14


def test_a_rule_cuts_a_group_that_is_named_after_it() -> None:
    groups = grouped({"match": "down_blocks.*", "lr": 0.2}, text_encoder_learning_rate=0.5)
    assert numbers(groups) == {"unet": (1.0, 0.1), "unet: down_blocks.*": (0.2, 0.1), "text_encoder": (0.5, 0.1)}
    assert len(groups["unet: down_blocks.*"].parameters) == 8


def test_a_pattern_may_begin_with_the_module_and_then_means_that_one_only() -> None:
    both = grouped({"match": "*.bias", "weight_decay": 0})
    assert numbers(both) == {
        "unet": (1.0, 0.1), "unet: *.bias": (1.0, 0.0), "text_encoder": (1.0, 0.1), "text_encoder: *.bias": (1.0, 0.0)
    }  # fmt: skip
    one = grouped({"match": "unet.*.bias", "weight_decay": 0})
    assert set(one) == {"unet", "unet: *.bias", "text_encoder"}


def test_case_counts() -> None:
    with pytest.raises(ConfigError, match="matches no parameter"):
        grouped({"match": "DOWN_blocks.*", "lr": 0.2})


def test_later_rules_win_property_by_property() -> None:
    groups = grouped(
        {"match": "down_blocks.*", "lr": 0.2, "weight_decay": 0.3},
        {"match": "*.norm.*", "weight_decay": 0},
        {"match": "down_blocks.1.*", "lr": 0.4},
    )
    assert numbers(groups) == {
        "unet": (1.0, 0.1),
        "unet: *.norm.*": (1.0, 0.0),
        "unet: down_blocks.*": (0.2, 0.3),
        "unet: down_blocks.*, *.norm.*": (0.2, 0.0),
        "unet: down_blocks.*, down_blocks.1.*": (0.4, 0.3),
        "unet: *.norm.*, down_blocks.1.*": (0.4, 0.0),
        "text_encoder": (1.0, 0.1),
    }


def test_what_is_frozen_is_in_no_group_and_has_no_gradient() -> None:
    made = modules()
    groups = grouped({"match": "unet.*", "freeze": True}, {"match": "up_blocks.*", "freeze": False}, of=made)
    assert set(groups["unet"].parameters) == {
        f"unet.up_blocks.0.{name}" for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    }
    trained = {f"unet.{name}" for name, one in made["unet"].named_parameters() if one.requires_grad}
    assert trained == set(groups["unet"].parameters)


def test_what_a_plugin_froze_before_trains_again_only_where_a_rule_says_so() -> None:
    made = modules()
    made["unet"].requires_grad_(False)
    groups = grouped({"match": "*", "lr": 0.2}, {"match": "conv_in.*", "freeze": False}, of=made)
    assert set(groups["unet: *"].parameters) == {"unet.conv_in.weight", "unet.conv_in.bias"}


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nothing is left to train in unet, text_encoder"):
        grouped({"match": "*", "freeze": True})


def test_all_rules_that_match_or_set_nothing_are_told_with_names_that_are_near() -> None:
    with pytest.raises(ConfigError) as caught:
        grouped(
            {"match": "donw_blocks.*", "lr": 0.2},
            {"match": "*"},
            {"match": "unet.up_block.0.conv.wieght", "freeze": True},
            {"match": "up_blocks", "freeze": True},
        )
    first, second, third, fourth = caught.value.problems
    assert first.startswith("train.parameters[0].match  'donw_blocks.*' matches no parameter")
    assert "near: down_blocks" in first
    assert second == "train.parameters[1]  '*' sets nothing; give it lr, weight_decay or freeze"
    assert "near: unet.up_blocks.0.conv.weight" in third
    assert fourth.endswith("'up_blocks.*' matches what is in it")


PATTERNS = (
    "*",
    "unet.*",
    "down_blocks.*",
    "unet.down_blocks.*",
    "*.bias",
    "unet.*.bias",
    "*.norm.*",
    "*.0.*",
    "text_encoder.*",
)
some_rules = st.lists(
    st.builds(
        ParameterRule,
        match=st.sampled_from(PATTERNS),
        lr=st.none() | st.sampled_from([0.2, 0.4, 0.8]),
        weight_decay=st.none() | st.sampled_from([0.0, 0.5]),
        freeze=st.none() | st.booleans(),
    ).filter(lambda rule: not rule.lr is rule.weight_decay is rule.freeze is None),
    max_size=6,
)  # fmt: skip


@given(rules=some_rules)
def test_whatever_the_rules_every_parameter_is_treated_as_they_say_read_one_by_one(rules: list[ParameterRule]) -> None:
    made = modules()
    expected: dict[str, tuple[float, float]] = {}
    for module in ("unet", "text_encoder"):
        for path, _ in made[module].named_parameters():
            said = {"lr": 1.0, "weight_decay": 0.1, "freeze": False}
            for rule in rules:
                if fnmatchcase(f"{module}.{path}", rule.match) or fnmatchcase(path, rule.match):
                    said |= {
                        key: value for key, value in rule.model_dump().items() if key in said and value is not None
                    }
            if not said["freeze"]:
                expected[f"{module}.{path}"] = said["lr"], said["weight_decay"]
    if not expected:
        with pytest.raises(ConfigError):
            grouped(*[rule.model_dump() for rule in rules], of=made)
        return
    groups = grouped(*[rule.model_dump() for rule in rules], of=made)
    got = {
        name: (group.learning_rate, group.weight_decay) for group in groups.values() for name in group.parameters
    }  # fmt: skip
    assert got == expected
    assert len({(*numbers(groups)[name], name) for name in groups}) == len(groups)


RULES = """
[[train.parameters]]
match = "unet.down_blocks.*"
freeze = true
[[train.parameters]]
match = "unet.up_blocks.*"
lr = 5e-4
[[train.parameters]]
match = "text_encoder.*"
weight_decay = 0.5
[[train.parameters]]
match = "*.layer_norm1.*"
freeze = true
"""
EXPORT = ("export.at_end=true", "export.dtype=fp32")


def exported(run: Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    folder = next((run.folder / "exports").iterdir())
    return {
        f"{part}.{name}": tensor
        for part in ("unet", "text_encoder")
        for path in (folder / part).glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


@pytest.fixture
def ruled(write_config: Callable[..., Path], train: Callable[..., Run]) -> Callable[..., Run]:
    """A run with the rules, which stand in [train] and so before the tables that follow it."""
    return lambda *overrides: train(*overrides, plugins=RULES)


def test_frozen_weights_keep_every_bit_and_all_others_move(
    ruled: Callable[..., Run], train: Callable[..., Run]
) -> None:
    before = exported(
        train("run.name=before", "train.steps=1", "train.learning_rate=1e-300", *EXPORT)
    )  # nothing, in float32
    after = exported(ruled("train.steps=3", *EXPORT))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.endswith("position_ids"):
            continue
        frozen = name.startswith("unet.down_blocks.") or ".layer_norm1." in name
        assert torch.equal(tensor, after[name]) is frozen, name


def test_the_rates_of_the_groups_are_logged_by_their_names(ruled: Callable[..., Run], tmp_path: Path) -> None:
    run = ruled("train.steps=2", "train.warmup_steps=0", 'plugins=["plugins.metrics_file.MetricsFile"]')
    line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    rates = {name: value for name, value in line["values"].items() if name.startswith("lr/")}
    assert rates == {"lr/unet": 1e-3, "lr/unet: up_blocks.*": 5e-4, "lr/text_encoder: *": 1e-3}
    groups = run.state()["state"]["optimizer"]["groups"]  # type: ignore[index]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.01, 0.5]


def test_a_run_with_rules_is_resumed_bit_for_bit(ruled: Callable[..., Run]) -> None:
    whole = ruled("run.name=whole", "train.steps=5")
    ruled("train.steps=3")
    assert_same_state(ruled("train.steps=5"), whole)


def test_groups_may_be_cut_otherwise_when_a_run_goes_on(ruled: Callable[..., Run], train: Callable[..., Run]) -> None:
    """The optimizer's state goes by the parameter, so nothing of it is lost. The norm is added up in another order."""
    train("train.steps=2")
    finer = '\n[[train.parameters]]\nmatch = "up_blocks.*"\nlr = 1e-3\n'
    whole = train("run.name=whole", "train.steps=4")
    cut = train("train.steps=4", plugins=finer)
    left, right = whole.state()["weights.safetensors"], cut.state()["weights.safetensors"]
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
