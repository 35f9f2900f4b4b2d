"""Row F14: checkpoints whose digests are right, and which the run cannot take back."""

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from .bench import Bench
from .on_disk import is_whole, seal_again, tree
from .rows import row
from .rows_process import begun
from .rows_signals import SHORT

Tensors = dict[str, Any]


def without_one(tensors: Tensors) -> Tensors:
    return dict(list(tensors.items())[1:])


def in_another_shape(tensors: Tensors) -> Tensors:
    """A tensor of at least two dimensions, one row longer."""
    import torch

    name = next(name for name, tensor in tensors.items() if tensor.ndim > 1)
    return tensors | {name: torch.cat([tensors[name], tensors[name][:1]])}


def with_another(tensors: Tensors) -> Tensors:
    import torch

    return tensors | {"unet.stranger": torch.zeros(2)}


def edit_tensors(name: str, change: Callable[[Tensors], Tensors], folder: Path) -> None:
    from safetensors.torch import load, save_file

    path = folder / f"{name}.safetensors"
    save_file(change(load(path.read_bytes())), path)


def edit_state(keys: tuple[str, ...], value: object, folder: Path) -> None:
    """Put a value in place of what state.json has there; None takes the key out."""
    path = folder / "state.json"
    state = table = json.loads(path.read_text())
    for key in keys[:-1]:
        table = table[key]
    if value is None:
        del table[keys[-1]]
    else:
        table[keys[-1]] = value
    path.write_text(json.dumps(state))


def overwrite(name: str, data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)


UNFIT: dict[str, Callable[[Path], object]] = {
    "the optimizer's tensors in another shape": partial(edit_tensors, "optimizer", in_another_shape),
    "an average is missing": partial(edit_tensors, "plugins", without_one),
    "a weight too many": partial(edit_tensors, "weights", with_another),
    "the optimizer's tensors are no safetensors": partial(overwrite, "optimizer.safetensors", b"\x08" + bytes(30)),
    "a tensor of the optimizer is missing": partial(edit_tensors, "optimizer", without_one),
    "a weight is missing": partial(edit_tensors, "weights", without_one),
    "a weight in another shape": partial(edit_tensors, "weights", in_another_shape),
    "an average in another shape": partial(edit_tensors, "plugins", in_another_shape),
    "the state is no JSON": partial(overwrite, "state.json", b"{"),
    "the state is a list": partial(overwrite, "state.json", b"[]"),
    "no position": partial(edit_state, ("position",), None),
    "a position of words": partial(edit_state, ("position",), {"step": "three"}),
    "no optimizer in the state": partial(edit_state, ("optimizer",), None),
    "a plugin's state is a word": partial(edit_state, ("plugins", "Journal"), "?"),
    "no plan": partial(edit_state, ("plan",), None),
    "metrics of another kind": partial(edit_state, ("metrics",), {"rows": 3}),
    "validation of another kind": partial(edit_state, ("validation",), [1, 2]),
}
"""What may be wrong in a checkpoint whose digests are all right."""


@row("F14", "a checkpoint that is whole and does not fit", cut=3, short=len(UNFIT), long=len(UNFIT))
def unfit(bench: Bench) -> None:
    """Nothing of it is applied: no weight has changed when the run ends, with exit 4 and the reason."""
    bench.spread({name: partial(refuse_unfit, change) for name, change in list(UNFIT.items())[: bench.count]})


def refuse_unfit(change: Callable[[Path], object], bench: Bench) -> None:
    work, record = begun(bench, SHORT, steps=3), bench.folder / "weights"
    change(work.checkpoints[-1])
    seal_again(work.checkpoints[-1])
    assert is_whole(work.checkpoints[-1])
    before = tree(work.run / "checkpoints")
    ended = bench.train(work, inject=partial(note_weights, record))
    assert ended.code == 4, ended.output
    assert "Traceback" not in ended.output, ended.output
    noted = set(record.read_text().split()) if record.exists() else set()
    record.unlink(missing_ok=True)
    assert len(noted) <= 1, "weights were changed before the checkpoint was refused"
    assert tree(work.run / "checkpoints") == before


def note_weights(record: Path) -> None:
    """A digest of the live weights before the checkpoint is read, and one after it could not be."""
    from core.resuming.run_state import RunState
    from core.run.artefacts import Artefacts

    load = Artefacts.load

    def note(state: RunState) -> None:
        total = sha256()
        for name, tensor in sorted(state.weights().items()):
            total.update(name.encode() + tensor.detach().numpy().tobytes())
        with record.open("a") as stream:
            stream.write(f"{total.hexdigest()}\n")

    def noted(self: Artefacts, *arguments: Any) -> Any:
        note(self.state)
        try:
            return load(self, *arguments)
        except BaseException:
            note(self.state)
            raise

    Artefacts.load = noted  # type: ignore[method-assign]  # in this process alone
