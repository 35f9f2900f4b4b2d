"""Pictures of the class beside those of the subject, so that learning the one does not lose the other."""

from dataclasses import replace
from pathlib import Path

from pydantic import Field

from events import Plugin, PluginSettings, transform
from events.payloads import DataContext, Item


class PriorPreservation(Plugin):
    """Loss = mean over the subject's pictures + weight * mean over the class's (Ruiz et al. 2022, arXiv:2208.12242, eq. 2).

    The pictures of `folder`, which lies within data.root or is one of several roots, are those of the class. With
    `balance` an epoch shows as many of them as of the subject's: each is shown n / m times where n of the subject's and
    m of the class's are shown without it. The step's mean is over both together, so of a balanced batch it is half the
    paper's sum.
    """

    class Settings(PluginSettings):
        folder: Path = Field(description="where the pictures of the class lie")
        weight: float = Field(1.0, ge=0, description="of their loss")
        balance: bool = Field(True, description="show as many of them as of the subject's pictures")

    @transform("data.items")
    def weigh(self, items: tuple[Item, ...], context: DataContext) -> tuple[Item, ...]:
        """Raises ValueError when one of the two kinds has no picture. Validation sets stay as they are."""
        if context.validation:
            return items
        folder = self.settings.folder.resolve()
        is_prior = [item.path.resolve().is_relative_to(folder) for item in items]
        shown = {kind: sum(item.settings.multiply for item, is_one in zip(items, is_prior, strict=True) if is_one == kind)
                 for kind in (True, False)}  # fmt: skip
        if not shown[True] or not shown[False]:
            kind = "of the class lies in" if not shown[True] else "of the subject lies outside"
            raise ValueError(f"no picture {kind} {self.settings.folder}; it is to be part of what data.root names")
        factor = shown[False] / shown[True] if self.settings.balance else 1.0
        return tuple(
            self._as_prior(item, factor) if is_one else item for item, is_one in zip(items, is_prior, strict=True)
        )

    def _as_prior(self, item: Item, factor: float) -> Item:
        own = item.settings
        return replace(
            item,
            settings=replace(own, multiply=own.multiply * factor, loss_scale=own.loss_scale * self.settings.weight),
        )
