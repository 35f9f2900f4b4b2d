"""The pass that encodes the captions whose embeddings a run needs and the store lacks."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import perf_counter

from events.catalogue import SAMPLE_CAPTION

from ..data.samples import Tokenize
from ..families.parts.encoding import encode_captions
from ..ranks.crew import Value
from ..ranks.divided import Divided
from .chance import some_keys, watch
from .division import LeftToChance, agreed, is_first_here, is_own
from .keys import Recipe, module_identity
from .parts import (
    CacheParts,
    Makers,
    begin,
    chance_text,
    compared,
    end,
    until_stopped,
    variations_of,
    why_random,
)
from .store import Store
from .text import TextEmbeddings, all_captions

log = logging.getLogger("signalbox.cache")
ENCODED_AT_ONCE = 64


@dataclass(slots=True)
class TextPass:
    """Of one run over all its data sets."""

    parts: CacheParts
    makers: Makers
    store: Store
    tokenize: Tokenize
    text: TextEmbeddings | None = None
    _recipe: Recipe | None = None

    def settle(self) -> bool:
        """Decide whether captions can be cached, and say why not."""
        found = agreed(self.parts.crew, "looking at how captions are made", lambda work: self._why_not())
        if why_not := next(filter(None, found), ""):
            log.warning("text is not cached: %s", why_not)
            return False
        self._recipe = self._make_recipe()
        self.text = TextEmbeddings(store=self.store, recipe_key=self._recipe.key)
        return True

    def fill(self) -> None:
        """Encode what is missing, if captions can be cached, each rank its part."""
        if not self.settle():
            return
        try:
            self._pass()
        except LeftToChance as chance:
            log.warning("text is not cached: %s", chance_text(chance.plugins))
            self.text = None

    def give_up(self) -> None:
        """Cache no text in this run."""
        self.text = None

    @property
    def recipe(self) -> Recipe:
        assert self._recipe is not None, "settle comes first"
        return self._recipe

    def needed(self) -> Iterator[bytes]:
        """The keys of every caption that the run can show."""
        return (key for key, _ in self._captions())

    def encode(self, captions: Iterable[str]) -> None:
        """Encode captions and store them."""
        assert self.text is not None
        captions, device = tuple(captions), self.parts.device
        tokens = {name: ids.to(device.device) for name, ids in self.tokenize(captions).items()}
        with device.autocast():
            found = {name: part.cpu() for name, part in encode_captions(self.parts.family, tokens).items()}
        self.store.write(
            (
                self.text.key(caption),
                {name: part[row] for name, part in found.items()},
                {**self.recipe.about, "caption": caption},
            )
            for row, caption in enumerate(captions)
        )

    def _why_not(self) -> str:
        trained = [name for name in self.parts.family.text_encoders if name in self.parts.trained]
        if trained:
            return f"model.train has {', '.join(trained)}, whose embeddings change"
        for maker in self.makers.values():

            def make(key, maker=maker):  # type: ignore[no-untyped-def]  # mypy wants no default in a typed one
                return maker.caption(key, maker.items[key.item])

            if why_not := why_random(watch(maker, some_keys(maker), make)):
                return why_not
        return ""

    def _make_recipe(self) -> Recipe:
        family, config = self.parts.family, self.parts.config
        identities = [module_identity(family.modules[name]) for name in family.text_encoders]
        return Recipe(
            product="text", encoder=" ".join([*identities, family.tokenizer_identity, self.parts.device.device.type]),
            transforms=(), settings={"max_tokens": family.max_tokens, "precision": config.train.precision},
        )  # fmt: skip

    def _pass(self) -> None:
        begun, crew, own = perf_counter(), self.parts.crew, dict[bytes, str]()
        found = agreed(crew, "looking into the cache of captions", partial(self._compare, own))
        tally = begin(self.parts, "text", [one for one in found if one])
        tally.add(agreed(crew, "encoding of captions", partial(self._encode_own, own)))
        end(self.parts, "text", tally, begun)

    def _compare(self, own: dict[bytes, str], work: Divided) -> Value:
        """Before anything is encoded, on one process of each machine; `own` takes in what falls to this one, by key."""
        beside = Store(self.store.path)  # a second connection, to look things up while the first takes the keys in

        def keys() -> Iterator[bytes]:
            for key, caption in work.over(self._captions()):
                if is_own(self.parts.crew, key) and key not in own and not beside.holds(key):
                    own[key] = caption
                yield key

        try:
            if is_first_here(self.parts.crew):
                return compared(self.store, keys(), self.recipe, self.makers)
            for _ in keys():
                pass
            return {}
        finally:
            beside.close()

    def _encode_own(self, own: dict[bytes, str], work: Divided) -> Value:
        """Returns how many were encoded."""
        captions, encoded = iter(own.values()), 0
        chunks = iter(lambda: tuple(islice(captions, ENCODED_AT_ONCE)), ())
        for some in until_stopped(self.parts, work.over(chunks)):
            self.encode(some)
            encoded += len(some)
        return {"encoded": encoded}

    def _captions(self) -> Iterator[tuple[bytes, str]]:
        assert self.text is not None
        for maker in self.makers.values():
            for worded in all_captions(maker, variations_of(maker, SAMPLE_CAPTION).total):
                if worded.drawn:
                    raise LeftToChance(worded.drawn)
                yield self.text.key(worded.caption), worded.caption
