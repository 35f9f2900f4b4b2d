"""What of a config DeepSpeed cannot take, told before anything is loaded."""

from importlib.util import find_spec

from ..config.tables import Config

KEY = "distributed.strategy"
ELEMENTWISE = frozenset({"Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD", "Adadelta"})
"""Classes of torch.optim that treat each number of a weight by itself, as they have to where weights are cut anywhere."""


def deepspeed_problems(config: Config) -> list[str]:
    """Settings that go without it, in the words of the config; none where it is not asked for."""
    train = config.train
    if config.distributed.strategy != "deepspeed":
        return []
    problems = []
    if find_spec("deepspeed") is None:
        problems.append(
            f"{KEY}  'deepspeed' needs a package that is not installed; pip install deepspeed, or use ddp or fsdp"
        )
    if config.distributed.zero_stage == 3:
        problems.append(
            f"distributed.zero_stage  3 is not offered: use {KEY} = 'fsdp', which divides weights too, or zero_stage = 2"
        )
    if train.fused_backward:
        problems.append(
            f"train.fused_backward  updates weights before the processes have shared their gradients, which {KEY} ="
            " 'deepspeed' does afterwards; set it to false"
        )
    if train.precision == "fp16":
        problems.append(
            f"train.precision  'fp16' scales gradients, and {KEY} = 'deepspeed' clips them before they could be scaled"
            " back; set train.precision = 'bf16', or use ddp"
        )
    if train.channels_last:
        problems.append(
            f"train.channels_last  is lost on trained weights, which {KEY} = 'deepspeed' lays out one behind the other;"
            " set it to false, or use ddp or fsdp"
        )
    return problems + optimizer_problems(train.optimizer)


def optimizer_problems(path: str) -> list[str]:
    """What keeps optimizers of this class, such as torch.optim.AdamW, from having their state divided."""
    if path.startswith("torch.optim.") and path.rpartition(".")[2] in ELEMENTWISE:
        return []
    return [
        f"train.optimizer  {path} would see each process's share of the weights as one long row,"
        f" cut anywhere, with {KEY} = 'deepspeed'; use one of torch.optim that treats every number by itself"
        f" ({', '.join(sorted(ELEMENTWISE))}), or ddp or fsdp"
    ]
