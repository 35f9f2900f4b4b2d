"""The loss picture by picture: which are hard to learn, and which captions are probably not those of their pictures."""

import csv
import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from core.history.picture_losses import Tally, Typical, Verdict, judge
from events import Plugin, PluginSettings, build, on
from events.payloads import (
    Batch,
    CheckpointStart,
    DataReady,
    EpochEnd,
    Item,
    LossFunction,
    MetricsReady,
    RunEnd,
    RunInfo,
    RunStart,
    StepEnd,
    StepParts,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger("signalbox.plugins.loss_by_image")
PLACES = 1 << 14
"""Losses that the device holds at once; of a step with more, the last batches of them count."""
Row = tuple[Any, ...]
"""(place, name, share, loss) or (place, name, share, loss, loss with another caption) of a sample."""


class LossByImage(Plugin):
    """List the pictures by how little their captions help the model, so that mislabelled ones come first.

    There are two numbers a picture. Both are of the noisier timesteps alone, where a prediction follows from the caption
    rather than from what can still be seen, and a dropped caption counts for nothing:

    * `lost` is the share of comparisons that its caption lost: after a step the loss of each sample is measured with
      its own caption, and with that of another picture of the batch, at the same noise and timestep. To average such a
      margin over training is what Pleiss et al. 2020, "Identifying mislabeled data using the area under the margin
      ranking", arXiv:2001.10528, do for classifiers. It costs two forward passes.
    * `loss` is the mean of (l - m) / s, with l the logarithm of its loss in the step, m and s the running mean and
      deviation of those at about the same timestep. It costs next to nothing, and is high for whatever is hard to
      draw. Pictures are ordered by it only where nothing is compared.

    A suspect lies `flag_from` robust deviations above the median of all pictures (Iglewicz and Hoaglin 1993, "How to
    detect and handle outliers", who take 3.5), or as many of its own standard errors where those are larger. Only what
    other pictures say otherwise can be found. In three runs of `examples/mislabelled.py`, with six wrong captions among
    sixty of ten kinds, the first six pictures held five, three and two of them, and by `loss` alone one, two and two;
    with sixty different captions it was one. At the end it writes `loss_by_image.html`, `.csv` and `.json` into the run's
    folder. With several processes the main one gathers what all of them have drawn, in the order of one that had drawn it
    all.
    """

    class Settings(PluginSettings):
        compare_every_steps: NonNegativeInt = Field(
            1,
            description="steps between two after which captions are compared; 0: never, the losses alone are gathered",
        )
        noise_from: float = Field(0.6, ge=0, lt=1, description="share of the timesteps from which on a sample counts")
        flag_from: float = Field(3.0, gt=0, description="robust deviations from which on a picture is a suspect")
        every_epochs: NonNegativeInt = Field(0, description="write the report after so many epochs too; 0: at the end")
        shown: PositiveInt = Field(60, description="pictures on the page; the other files have all")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._items: Sequence[Item] = ()
        self._transparent = "white"
        self._tape: Tape | None = None
        self._waiting: list[Draws] = []
        self._post: deque[Letter] = deque()
        self._typical = Typical(self.settings.noise_from)
        self._pictures: dict[str, Tally] = {}

    @on("run.start")
    def note_background(self, event: RunStart) -> None:
        """Transparent pictures are shown over the colour that they are trained on."""
        self._transparent = event.config.get("data", {}).get("transparent", self._transparent)

    @on("data.ready")
    def note_items(self, event: DataReady) -> None:
        self._items = event.items

    @build("loss", priority=95)
    def record(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        """Behind whatever changes the loss, so that what is recorded is what is minimised, but for the weight."""
        tape = self._tape = Tape(parts.device, parts.schedule.timesteps)

        def recorded(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            losses = loss(prediction, target, t, batch)
            tape.write(losses.detach(), t)
            return losses

        return recorded

    @on("step.end", ranks="all", collective=True)
    def gather(self, event: StepEnd) -> None:
        """Enqueue only; with a comparison, two forward passes a batch, in lockstep as many on each rank."""
        every = self.settings.compare_every_steps
        self._waiting += self._read_tape(event)
        if not every or event.step % every:
            return
        for number, batch in self._numbered(event):
            if len(batch.captions) > 1 or event.live.lockstep:
                self._waiting.append(self._compare(batch, event, number))
        for batch in event.stand_ins if event.live.lockstep else ():
            self._compare(batch, event, 0)  # for the others' sake

    def _read_tape(self, event: StepEnd) -> "Iterator[Draws]":
        """The losses of the step itself. Those that this rank went through in another's stead lie behind them."""
        assert self._tape is not None
        left = sum(len(batch.sample_ids) for batch in (*event.batches, *event.stand_ins))
        for number, batch in self._numbered(event):
            count, behind = len(batch.sample_ids), left - len(batch.sample_ids)
            if left <= PLACES:
                yield Draws((event.step, 0, number), _captioned(batch), self._tape.newest(count, behind=behind))
            left = behind

    def _numbered(self, event: StepEnd) -> Iterator[tuple[int, Batch]]:
        """This rank's batches with their numbers among those of the step on all ranks, which are dealt one by one."""
        return ((self.ranks.rank + place * self.ranks.count, batch) for place, batch in enumerate(event.batches))

    def _compare(self, batch: Batch, event: StepEnd, number: int) -> "Draws":
        """Each sample with its own caption, and with that of another in the batch, at the same noise."""
        import torch

        assert self._tape is not None
        count = len(batch.captions)
        shift = 1 + event.step % max(count - 1, 1)
        captions = [*batch.captions[-shift:], *batch.captions[:-shift]]
        other = replace(
            batch,
            tokens={name: part.roll(shift, 0) for name, part in batch.tokens.items()},
            embeddings={name: part.roll(shift, 0) for name, part in batch.embeddings.items()},
        )
        own, others = event.live.measure(batch, event.step), event.live.measure(other, event.step)
        differs = [own != caption for own, caption in zip(batch.captions, captions, strict=True)]
        names = [name if differs else None for name, differs in zip(_captioned(batch), differs, strict=True)]
        place = (event.step, 1, number)
        return Draws(place, names, torch.stack((self._tape.newest(count)[0], own.float(), others.float())))

    @on("metrics.ready", ranks="all", collective=True)
    def read(self, event: MetricsReady) -> None:
        """Send what has been gathered to the host, and take in what has arrived.

        Alone it waits for nothing. With several processes all of them take in what was sent at the report before, which has
        long arrived: so that each comes with the same steps.
        """
        if self.ranks.count > 1:
            self._take_in_all()
            self._send()
            return
        self._send()
        while self._post and self._post[0].is_there():
            self._take_in(self._post.popleft().rows())

    @on("checkpoint.start", ranks="all", collective=True)
    @on("run.end", ranks="all", collective=True)
    def bring_together(self, event: CheckpointStart | RunEnd) -> None:
        """Waits for the device, so that nothing is on its way."""
        self._send()
        self._take_in_all()

    @on("epoch.end", ranks="all", collective=True)
    def bring_together_now_and_then(self, event: EpochEnd) -> None:
        if self._is_due(event):
            self._send()
            self._take_in_all()

    @on("epoch.end")
    def report_now_and_then(self, event: EpochEnd) -> None:
        if self._is_due(event):
            self._report(event.run, event.step)

    @on("run.end")
    def report(self, event: RunEnd) -> None:
        self._report(event.run, event.step)

    def state_dict(self) -> Mapping[str, Any]:
        """All is here by `checkpoint.start`, which goes before."""
        import torch

        numbers = torch.tensor([astuple(tally) for tally in self._pictures.values()], dtype=torch.float64)
        return {"pictures": list(self._pictures), "numbers": numbers, "typical": self._typical.means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._waiting.clear()
        self._post.clear()
        rows = zip(state["pictures"], state["numbers"].tolist(), strict=True)
        self._pictures = {name: Tally(*numbers) for name, numbers in rows}
        self._typical.means = [list(each) for each in state["typical"]]

    def _is_due(self, event: EpochEnd) -> bool:
        every: int = self.settings.every_epochs
        return every > 0 and (event.epoch + 1) % every == 0

    def _send(self) -> None:
        if self._waiting:
            self._post.append(Letter(self._waiting))
            self._waiting = []

    def _take_in_all(self) -> None:
        """What was sent on any rank, in the order in which one process would have drawn it. A collective."""
        for letter in self._post:
            letter.wait()
        own = [row for letter in self._post for row in letter.rows()]
        self._post.clear()
        found = self.ranks.gather(own) if self.ranks.count > 1 else [own]
        if self.ranks.is_main:
            self._take_in(sorted(chain.from_iterable(found), key=itemgetter(0)))

    def _take_in(self, rows: Iterable[Row]) -> None:
        for _, name, share, *losses in rows:
            if name is None or share < self.settings.noise_from or not all(0 < loss < math.inf for loss in losses):
                continue
            tally = self._pictures.setdefault(name, Tally())
            if len(losses) > 1:
                tally.compare(*losses)
            else:
                tally.add(self._typical.standardised(share, math.log(losses[0])))

    def _report(self, run: RunInfo, step: int) -> None:
        from core.history.suspects import Shown, write_suspects

        items = {item.id: item for item in self._items if item.id in self._pictures}
        verdicts = judge({name: self._pictures[name] for name in items}, self.settings.flag_from)
        path = run.folder / "loss_by_image.html"
        rows = [{"id": one.id, "caption": items[one.id].caption} | asdict(one) for one in verdicts]
        text = json.dumps({"step": step, "pictures": rows}, indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["id", "caption", *[field.name for field in fields(Verdict)][1:]])
            table.writeheader()
            table.writerows(rows)
        shown = [
            Shown(item=items[one.id], numbers=one.sentence, is_suspect=one.is_suspect)
            for one in verdicts[: self.settings.shown]
        ]
        suspects = [one.id for one in verdicts if one.is_suspect]
        facts = (("Pictures", f"{len(verdicts):,}"), ("Suspects", f"{len(suspects):,}"), ("Step", f"{step:,}"))
        write_suspects(path, run.name, facts, shown, transparent=self._transparent)
        log.info(
            "loss by image: %d of %d captions are suspect at step %d (%s)", len(suspects), len(verdicts), step, path
        )


@dataclass(frozen=True, slots=True)
class Draws:
    """Some samples with their numbers on the device."""

    place: tuple[int, int, int]
    """Step, 0 for losses and 1 for comparisons, and the batch's number in the step."""
    names: "list[str | None]"
    """Ids of the items; None for a sample that is no evidence."""
    numbers: "Tensor"
    """(2, B): share of the timesteps, and loss; or (3, B) with the loss with another caption."""


class Letter:
    """Draws on their way to the host, which does not wait for them."""

    def __init__(self, draws: Sequence[Draws]) -> None:
        import torch

        self._sent: torch.cuda.Event | None = None
        if draws[0].numbers.is_cuda:
            draws = [replace(each, numbers=_copied(each.numbers)) for each in draws]
            self._sent = torch.cuda.Event()
            self._sent.record()
        self._draws = draws

    def is_there(self) -> bool:
        return self._sent is None or self._sent.query()

    def wait(self) -> None:
        if self._sent is not None:
            self._sent.synchronize()

    def rows(self) -> Iterator[Row]:
        for each in self._draws:
            yield from zip(repeat(each.place, len(each.names)), each.names, *each.numbers.tolist(), strict=True)


class Tape:
    """The newest losses on the device, round and round: written within the closed step, compiled or not."""

    def __init__(self, device: "torch.device", timesteps: int) -> None:
        import torch

        self._numbers = torch.zeros(2, PLACES, device=device)
        self._written = torch.zeros((), dtype=torch.int64, device=device)
        self._timesteps = timesteps

    def write(self, losses: "Tensor", t: "Tensor") -> None:
        """Losses (B,) at timesteps (B,); a few small kernels."""
        import torch

        places = (self._written + torch.arange(len(losses), device=losses.device)) % PLACES
        self._numbers.index_copy_(1, places, torch.stack((t.float() / self._timesteps, losses.float())))
        self._written.add_(len(losses))

    def newest(self, count: int, *, behind: int = 0) -> "Tensor":
        """(2, count): share of the timesteps and loss of the last that were written, also when a step was taken twice.

        `behind` are those written after them, which are left out.
        """
        import torch

        places = (self._written - behind - count + torch.arange(count, device=self._written.device)) % PLACES
        return self._numbers.index_select(1, places)


def _captioned(batch: Batch) -> "list[str | None]":
    """Ids by sample, None for one whose caption was dropped."""
    return [name if caption else None for name, caption in zip(batch.sample_ids, batch.captions, strict=True)]


def _copied(numbers: "Tensor") -> "Tensor":
    """On the host, in pinned memory; there once an event that is recorded now has passed."""
    import torch

    host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    return host.copy_(numbers, non_blocking=True)
