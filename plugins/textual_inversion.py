"""New words for a subject or a style: only their embeddings are trained, and nothing of the model moves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, field_validator

from events import Plugin, PluginSettings, build, on, transform
from events.payloads import ExportContext, ExportWrite, ModelContext, ModelLoaded, SampleContext

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE_NAMES = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
"""Of the text encoders in files that hold the embeddings of both."""


class TextualInversion(Plugin):
    """Add words to the text encoders of model.train and train their vectors alone (Gal et al. 2022, arXiv:2208.01618, eq. 2).

    The new rows lie beside the old ones in a tensor of their own, so no other row can move, whatever the optimizer
    does; the rest of these text encoders is frozen. A word of several vectors stands for as many tokens, which the stock
    pipeline puts in for it by itself. The export holds `<word>.safetensors`, which `pipeline.load_textual_inversion`
    reads, and with export.model the text encoder with its longer table.
    """

    class Settings(PluginSettings):
        words: dict[str, str] = Field(
            min_length=1, description='new words, each with a known one to start from: { "<my-cat>" = "cat" }'
        )
        vectors: PositiveInt = Field(1, description="how many tokens each counts as")

        @field_validator("words")
        @classmethod
        def _single_words(cls, words: dict[str, str]) -> dict[str, str]:
            for word in words:
                if word != word.lower() or len(word.split()) != 1:
                    raise ValueError(f"{word!r} is to be one word in lower case, such as <my-cat>")
            return words

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._tokenizers: Mapping[str, Any] = {}
        self._lengthened: tuple[str, ...] = ()

    @on("model.loaded")
    def remember(self, event: ModelLoaded) -> None:
        self._tokenizers = event.tokenizers

    @build("model", priority=20)
    def lengthen(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        """Raises ValueError when no text encoder is trained, for a word that is known, and for a start that is none."""
        self._lengthened = tuple(name for name in context.trained if name in self._tokenizers)
        if not self._lengthened:
            raise ValueError("no text encoder is in model.train; name the one that is to learn a new word")
        for name in self._lengthened:
            modules[name].requires_grad_(False)
            self._lengthen(name, modules[name])
        return modules

    @transform("sample.caption", priority=95)
    def spell_out(self, caption: str, sample: SampleContext) -> str:
        """Every vector's token for the word that was written."""
        for word in self.settings.words:
            caption = caption.replace(word, " ".join(self._tokens(word)))
        return caption

    @transform("checkpoint.tensors", priority=30)
    def join(self, tensors: "dict[str, Tensor]", context: ExportContext) -> "dict[str, Tensor]":
        """The new rows behind the known ones, in one table under its usual name."""
        import torch

        place = next((name.removesuffix(".new_rows") for name in tensors if name.endswith(".new_rows")), None)
        if context.module not in self._lengthened or place is None:
            return tensors
        known, new = f"{place}.known.weight", f"{place}.new_rows"
        kept = {name: tensor for name, tensor in tensors.items() if name not in (known, new)}
        return kept | {f"{place}.weight": torch.cat([tensors[known], tensors[new]])}

    @on("export.write")
    def write(self, event: ExportWrite) -> None:
        from safetensors.torch import save_file

        count = self.settings.vectors
        for number, word in enumerate(self.settings.words):
            rows = {
                FILE_NAMES[name] if len(self._lengthened) > 1 else word:
                _new_rows(event.modules[name])[number * count : (number + 1) * count].to(event.dtype)
                for name in self._lengthened
            }  # fmt: skip
            save_file(rows, event.folder / f"{_file_name(word)}.safetensors", metadata={"format": "pt", **event.header})

    def _tokens(self, word: str) -> tuple[str, ...]:
        """The word, and with several vectors those that diffusers expects beside it."""
        return (word, *(f"{word}_{number}" for number in range(1, self.settings.vectors)))

    def _lengthen(self, name: str, module: Any) -> None:
        tokenizer, table = self._tokenizers[name], module.get_input_embeddings()
        new = [token for word in self.settings.words for token in self._tokens(word)]
        vocabulary = tokenizer.get_vocab()
        if taken := [token for token in new if token in vocabulary]:
            raise ValueError(f"the tokenizer of {name} knows {taken[0]!r} already; choose another word")
        if len(tokenizer) != table.num_embeddings:
            raise ValueError(f"{name} has {table.num_embeddings} embeddings for {len(tokenizer)} tokens")
        rows = [self._start(tokenizer, table, initial) for initial in self.settings.words.values()]
        tokenizer.add_tokens(new)
        module.set_input_embeddings(_lengthened(table, rows))
        module.config.vocab_size = len(tokenizer)
        text_model = getattr(module, "text_model", module)
        if getattr(text_model, "eos_token_id", None) == 2:
            # Old configs say 2, upon which transformers takes the largest id for the end; a new word's is larger.
            text_model.eos_token_id = module.config.eos_token_id = tokenizer.eos_token_id

    def _start(self, tokenizer: Any, table: Any, initial: str) -> "Tensor":
        """(vectors, D): the embeddings of the known word, cut or repeated."""
        ids = tokenizer(initial, add_special_tokens=False).input_ids
        if not ids:
            raise ValueError(f"{initial!r} is no word to start from: the tokenizer has no token for it")
        count = self.settings.vectors
        rows: Tensor = table.weight.detach()[(ids * count)[:count]].float().clone()
        return rows


def _lengthened(table: Any, rows: "list[Tensor]") -> "nn.Module":
    """An embedding of the known rows, frozen, and of new ones behind them."""
    import torch
    from torch import nn

    class LengthenedEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.known = table.requires_grad_(False)
            self.new_rows = nn.Parameter(torch.cat(rows))
            self.num_embeddings, self.embedding_dim = table.num_embeddings + len(self.new_rows), table.embedding_dim

        @property
        def weight(self) -> "Tensor":
            return torch.cat([self.known.weight, self.new_rows.to(self.known.weight.dtype)])

        def forward(self, ids: "Tensor") -> "Tensor":
            """(B, L) -> (B, L, D). Both tables are looked up and the right row is taken, so nothing is read back."""
            last = self.known.num_embeddings - 1
            known = self.known(ids.clamp(max=last))
            new = self.new_rows[(ids - last - 1).clamp(min=0)].to(known.dtype)
            return torch.where((ids > last)[..., None], new, known)

    return LengthenedEmbedding()


def _new_rows(module: "nn.Module") -> "Tensor":
    """All new vectors as they are now, float32 on the CPU; waits for the device."""
    table: Any = module.get_input_embeddings()  # type: ignore[operator]  # every model of transformers has it
    rows: Tensor = table.new_rows.detach().float().cpu()
    return rows


def _file_name(word: str) -> str:
    return "".join(letter for letter in word if letter.isalnum() or letter in "-_") or "word"
