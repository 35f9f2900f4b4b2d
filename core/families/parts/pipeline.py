"""What the families have in common: a model that diffusers keeps as a pipeline is loaded, rendered and written alike."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from events.payloads import Conditioning, Prompt

from ...compute.noise_schedule import DiscreteSchedule, FlowSchedule
from ...compute.rng import seeded_initialisation
from ...config.tables import ModelTable
from ...errors import ConfigError
from .clip import long_standing_keys, write_text_config
from .folder import ModelFolder, write_json
from .original import Places, read_original, require_names, to_original
from .scheduler import load_scheduler, sampler_of, schedule_of
from .tokenizers import count_tokens, load_tokenizer, tokenizer_identity, write_tokenizer
from .weights import from_config, from_folder, library_of, new_transformer, require_files, transformer_from_folder

if TYPE_CHECKING:
    from PIL import Image

    from ...data.samples import Tokenize

log = logging.getLogger("signalbox.model")
KEPT = ("_class_name", "_diffusers_version")
"""Of what diffusers adds to a config, what it reads again."""


class PipelineFamily(ABC):
    """A kind of model; its file says what it is made of, how captions are read, and how it predicts.

    Made of configs and tokenizers alone, which is what preparing data needs; `load` brings the weights.
    """

    pipelines: ClassVar[tuple[str, ...]]
    """Classes of diffusers whose folders it reads; the first renders and is written."""
    parts: ClassVar[Mapping[str, str]]
    """By module, its class in diffusers or transformers."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """Modules that a folder may be without."""
    tokenizer_folders: ClassVar[Mapping[str, str]]
    """By text encoder."""
    denoiser: ClassVar[str] = "transformer"
    image_encoder: ClassVar[str] = "vae"
    trainable: ClassVar[tuple[str, ...]]
    """Modules that model.train may name, the denoiser first."""
    predictions: ClassVar[tuple[str, ...]] = ("flow",)
    """What the denoiser may predict: epsilon, v_prediction, sample, flow."""
    single_files: ClassVar[bool] = False
    """Whether it is known as a single file too, whose `layout` it then has."""
    ignores_padding: bool = False
    """Whether the denoiser looks away from tokens that the conditioning's `mask` leaves out."""
    nothing: Mapping[str, Any] = {}
    """Arguments of the pipeline for what this trainer does not use, and settings of its own."""

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        """Raises ConfigError for what the folder lacks, and for a `max_tokens` that the model cannot read."""
        self.folder = folder
        index = folder.index()
        folder.require_known([*self.parts, "scheduler", *self.tokenizer_folders.values()])
        self.present = tuple(
            name for name in self.parts if name not in self.optional or index.get(name, [None])[0] is not None
        )
        self.text_encoders = tuple(name for name in self.present if name in self.tokenizer_folders)
        needed = [f"{name}/config.json" for name in self.present]
        folders = {name: self.tokenizer_folders[name] for name in self.text_encoders}
        folder.require([*needed, "scheduler/scheduler_config.json", *dict.fromkeys(folders.values())])
        self.configs: dict[str, Any] = {name: folder.config(name) for name in self.present}
        self.tokenizers = {
            name: load_tokenizer(folder.path / place, index.get(place, [None, None])[1])
            for name, place in folders.items()
        }
        self.max_tokens = self.read_tokens(max_tokens)
        self.modules: dict[str, nn.Module] = {}
        self.scheduler: Any = None
        self.schedule: DiscreteSchedule | FlowSchedule

    # What a family's file says.

    @property
    @abstractmethod
    def latent_scale(self) -> int:
        """Sides of pictures over those of their latents."""

    @property
    @abstractmethod
    def pixel_multiple(self) -> int:
        """Sides of training pictures are multiples of this."""

    @abstractmethod
    def read_tokens(self, asked: int) -> int:
        """How many tokens are read when the config asks for so many, 0 being the model's own choice.

        Raises ConfigError for a number that the model cannot read.
        """

    @property
    @abstractmethod
    def tokenize(self) -> "Tokenize": ...

    @abstractmethod
    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning: ...

    @abstractmethod
    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor: ...

    # What holds for most, and a family's file may say otherwise.

    @property
    def layout(self) -> Mapping[str, Places]:
        """By module, where its tensors lie in a single file."""
        return {}

    @property
    def token_limit(self) -> int:
        return self.max_tokens

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """By the tokenizer that reads most."""
        return count_tokens(self.tokenizers[self.text_encoders[-1]], captions)

    @property
    def tokenizer_identity(self) -> str:
        return " ".join(tokenizer_identity(one) for one in self.tokenizers.values())

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae, config = self.modules[self.image_encoder], self.configs[self.image_encoder]
        posterior = vae.encode(pixels.to(dtype_of(vae))).latent_dist  # type: ignore[operator]  # nn.Module hides encode
        shift, scale = config.get("shift_factor") or 0.0, config["scaling_factor"]
        return (posterior.mean.float() - shift) * scale, posterior.std.float() * scale

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """What the pipeline is asked for, beside size, steps and seeds."""
        return {
            "prompt": [prompt.text for prompt in prompts],
            "negative_prompt": [prompt.negative for prompt in prompts],
            "guidance_scale": prompts[0].guidance,
        }

    def sampler(self, name: str) -> Any:
        """The scheduler that previews sample with."""
        return sampler_of(self.scheduler, name)

    @property
    def architecture(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def kohya(self, module: str, layers: Iterable[str]) -> Mapping[str, str]:
        return {}

    def long_standing(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A text encoder's tensors under the names by which every release of transformers reads them."""
        return long_standing_keys(state) if self.parts[name] == "CLIPTextModel" else state

    def index_entries(self) -> dict[str, Any]:
        """Beside modules, tokenizers and scheduler, what model_index.json says."""
        return {name: [None, None] if value is None else value for name, value in self.nothing.items()}

    # What is the same for all.

    def load(self, table: ModelTable, seed: int) -> None:
        """Bring the weights, in float32 on the CPU. Raises ConfigError for what is missing or does not fit."""
        for note in self.folder.notes:
            log.info("model.path: %s", note)
        self._settle(table)
        for name in self.present:
            module = self._load_part(table, name, seed).requires_grad_(False).eval()
            self.modules[name], self.configs[name] = module, _settings_of(module)

    def load_empty(self, table: ModelTable) -> None:
        """As `load`, with modules that have shapes and no values, on torch's meta device.

        Raises ConfigError as `load` does for what configs and headers of files can tell.
        """
        self._settle(table)
        for name in self.present:
            with torch.device("meta"):
                self.modules[name] = self._build(name).requires_grad_(False).eval()
            if name not in table.from_scratch:
                self._require_weights(name)

    def _settle(self, table: ModelTable) -> None:
        """The scheduler, and what can be said against the model before its weights are read."""
        self.use_scheduler(load_scheduler(self.folder, self.predictions, self.folder.prediction))
        if self.folder.single_file is not None and not self.single_files:
            raise ConfigError(
                "model", [f"model.path  {table.path} is a single file; of this family, a diffusers folder is read"]
            )
        if absent := [name for name in table.train if name not in self.present]:
            raise ConfigError("model", [f"model.train  {absent[0]!r} is not part of {self.folder.path}; leave it out"])

    @property
    def origin(self) -> str:
        return str(self.folder.single_file or self.folder.path)

    def use_scheduler(self, scheduler: Any) -> None:
        """Train on another scheduler's noise schedule, and export it."""
        self.scheduler, self.schedule = scheduler, schedule_of(scheduler)

    def to(self, device: torch.device) -> None:
        self.schedule = self.schedule.to(device)

    def render(self, prompts: tuple[Prompt, ...]) -> "list[Image.Image]":
        first = prompts[0]
        with self._one_dtype():
            result = self.pipeline(first.scheduler)(
                **self.conditions(prompts),
                generator=[torch.Generator().manual_seed(prompt.seed) for prompt in prompts],
                width=first.width,
                height=first.height,
                num_inference_steps=first.steps,
            )
        pictures: list[Image.Image] = result.images
        return pictures

    def pipeline(self, scheduler: str = "") -> Any:
        """The stock pipeline over the modules as they are now."""
        import diffusers

        absent: dict[str, Any] = dict.fromkeys(set(self.parts) - set(self.present))
        tokenizers: dict[str, Any] = dict.fromkeys(self.tokenizer_folders.values())
        tokenizers |= {self.tokenizer_folders[name]: one for name, one in self.tokenizers.items()}
        kind = getattr(diffusers, self.pipelines[0])
        made = kind(**self.bare_modules(), **absent, **tokenizers, scheduler=self.sampler(scheduler), **self.nothing)
        made.set_progress_bar_config(disable=True)
        return made

    def bare_modules(self) -> "dict[str, nn.Module]":
        """By name, without what accelerate puts around a module that several processes train."""
        from accelerate.utils import extract_model_from_parallel

        return {name: extract_model_from_parallel(module) for name, module in self.modules.items()}

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        for name, state in tensors.items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            self._write_part(place, name, dict(state), {"format": "pt"} | headers[name])
        for name in self.text_encoders:
            within = self.tokenizer_folders[name]
            write_tokenizer(self.tokenizers[name], self.folder.path / within, folder / within)
        self.scheduler.save_pretrained(folder / "scheduler")
        write_json(folder / "model_index.json", self._index())

    def single_file(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Raises ValueError where the family has no such layout, or no place for a tensor in it."""
        if not self.single_files:
            raise ValueError(f"{self.pipelines[0]} has no single-file layout that could be written")
        return to_original(tensors, self.layout)

    def _load_part(self, table: ModelTable, name: str, seed: int) -> nn.Module:
        if name in table.from_scratch:
            with seeded_initialisation(seed, "initialise", name):
                return self._build(name)
        if self.folder.single_file is not None:
            return self._from_single_file(self.folder.single_file, name)
        kind, place = self._kind(name), self.folder.path / name
        return from_folder(kind, place) if _is_diffusers(kind) else transformer_from_folder(kind, place)

    def _require_weights(self, name: str) -> None:
        """Raises ConfigError where the files lack weights of a part, as their headers tell."""
        file = self.folder.single_file
        if file is None:
            require_files(self.folder.path / name, diffusers=_is_diffusers(self._kind(name)))
        else:
            require_names(file, self.layout[name](self.modules[name].state_dict()))

    def _from_single_file(self, path: Path, name: str) -> nn.Module:
        """Only the model's own weights are read; averaged ones (`model_ema.`) are not, as in the stock loader."""
        module = self._build_empty(name)
        shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
        module.load_state_dict(read_original(path, self.layout[name](shapes), shapes, self.folder.advice), assign=True)
        return module

    def _build(self, name: str) -> nn.Module:
        kind, place = self._kind(name), self.folder.path / name
        return from_config(kind, place) if _is_diffusers(kind) else new_transformer(kind, place)

    def _build_empty(self, name: str) -> nn.Module:
        """To be filled from a file; only those of transformers have buffers that no file holds."""
        if name in self.text_encoders:
            with seeded_initialisation("overwritten"):
                return self._build(name)
        with torch.device("meta"):
            return self._build(name)

    def _kind(self, name: str) -> Any:
        return library_of(self.parts[name])

    def _write_part(self, place: Path, name: str, state: dict[str, Tensor], header: dict[str, str]) -> None:
        from safetensors.torch import save_file

        if _is_diffusers(self._kind(name)):
            write_json(place / "config.json", public(self.configs[name]))
            save_file(state, place / "diffusion_pytorch_model.safetensors", metadata=header)
            return
        write_text_config(self.bare_modules()[name].config, self.parts[name], place)
        save_file(self.long_standing(name, state), place / "model.safetensors", metadata=header)

    def _index(self) -> dict[str, Any]:
        """What the stock pipeline is put together from."""
        import diffusers

        modules = {name: self._entry(name) for name in self.parts}
        tokenizers = {
            place: self._tokenizer_entry(name) if name in self.tokenizers else [None, None]
            for name, place in self.tokenizer_folders.items()
        }
        own = {"_class_name": self.pipelines[0], "_diffusers_version": diffusers.__version__}
        return (
            own
            | modules
            | tokenizers
            | {"scheduler": ["diffusers", type(self.scheduler).__name__]}
            | self.index_entries()
        )

    def _entry(self, name: str) -> list[str | None]:
        if name not in self.present:
            return [None, None]
        return ["diffusers" if _is_diffusers(self._kind(name)) else "transformers", self.parts[name]]

    def _tokenizer_entry(self, name: str) -> list[str | None]:
        """As the model's own index names it, whose files are written; transformers 5 calls the fast kinds by other names."""
        own: list[str | None] | None = self.folder.index().get(self.tokenizer_folders[name])
        return own or ["transformers", type(self.tokenizers[name]).__name__]

    def _one_dtype(self) -> AbstractContextManager[Any]:
        """Half-precision modules beside float32 ones work together under autocast."""
        kinds = {dtype_of(module) for module in self.modules.values()} - {torch.float32}
        if not kinds:
            return nullcontext()
        device = next(self.modules[self.denoiser].parameters()).device
        return torch.autocast(device.type, next(iter(kinds)))


def dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers config without what it remembers of this machine, such as the folder it came from."""
    return {key: value for key, value in config.items() if not key.startswith("_") or key in KEPT}


def _settings_of(module: nn.Module) -> Mapping[str, Any]:
    config: Any = module.config
    return config if isinstance(config, Mapping) else dict(config.to_dict())


def _is_diffusers(kind: Any) -> bool:
    return str(kind.__module__).startswith("diffusers")
