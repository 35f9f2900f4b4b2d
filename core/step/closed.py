"""The closed step: forward, backward, clip, optimizer. Nothing is dispatched and nothing waits for the device (P8, P9).

It calls functions that were composed before the first step. A loss or gradient norm that is not finite is found on the
device before any weight has moved, and the optimizer's own kernels then leave weights and state as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from events.catalogue import own_generator
from events.payloads import Batch, Conditioning, LearningRateFunction, ParameterGroup
from events.randomness import Place

from ..compute.device import Device
from ..compute.rng import CORE, PlaceStreams, draw_each, draws_in_forward, seeded_globally
from ..families import Family
from ..families.parts.encoding import encode_captions, encode_pictures
from .evaluation_weights import has_evaluation_weights
from .metrics import MetricsRing
from .objective import Objective, as_drawn, gaussian_noise, unchanged
from .update import Update

Encode = Callable[[Mapping[str, Tensor]], Conditioning]
POSTERIOR_NOISE = own_generator(gaussian_noise, CORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A batch that goes forward and backward within a step."""

    batch: Batch
    number: int
    """Which of the step's batches it is, on all ranks."""
    is_stand_in: bool = False
    """It is another rank's and has no weight: this rank has none left, and the others wait for its gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """One rank's part of a step."""

    all: tuple[Round, ...]
    images: int
    """That share the step, on all ranks."""
    count: int
    """Of the step's batches, on all ranks."""

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Those that count."""
        return tuple(one.batch for one in self.all if not one.is_stand_in)

    @property
    def stand_ins(self) -> tuple[Batch, ...]:
        """Those that do not, which come last."""
        return tuple(one.batch for one in self.all if one.is_stand_in)


class Step:
    """Takes optimizer steps on batches that are already on the device."""

    def __init__(
        self,
        *,
        family: Family,
        objective: Objective,
        device: Device,
        optimizer: torch.optim.Optimizer,
        update: Update,
        groups: tuple[ParameterGroup, ...],
        factor: LearningRateFunction,
        seed: int,
        metrics: MetricsRing,
        trains_text: bool,
        compiled: bool = False,
    ) -> None:
        self._family = family
        self._objective = objective
        self._device = device
        self._optimizer: Any = optimizer
        self._update = update
        self._groups = groups
        self._factor = factor
        self._metrics = metrics
        self._seed = seed
        self._draws = False
        """Whether a trained module has dropout."""
        self._streams = {
            purpose: PlaceStreams(device.device, seed, purpose)
            for purpose in ("posterior", "noise", "input_noise", "timesteps", "conditioning")
        }
        self._validation = {
            purpose: PlaceStreams(device.device, seed, "validation", purpose)
            for purpose in ("posterior", "noise", "timesteps")
        }
        self.losses = device.shared(
            torch.compile(self._losses, fullgraph=True) if compiled else self._losses,
            {family.denoiser: family.modules[family.denoiser]},
            trial=self._predict,
        )
        self._encode: Encode = partial(encode_captions, family)
        if trains_text:
            encoders = {name: family.modules[name] for name in family.text_encoders}
            self._encode = device.shared(family.encode_text, encoders)

    @property
    def is_torn(self) -> bool:
        """Weights may have been written, and the step has not come to its end: between steps they are of none."""
        return self._update.is_torn

    def begin(self) -> None:
        """Before the first step, once plugins have registered what they hook into modules and optimizer."""
        self._draws = any(draws_in_forward(module) for module in self._family.modules.values() if module.training)
        if has_evaluation_weights(self._optimizer):
            self._optimizer.train()
        self._update.begin()

    def take(self, rounds: "Rounds", steps_taken: int) -> dict[str, float]:
        """One optimizer step over one batch a round; returns the learning rates it used, by group.

        Every image has the same share in the step, however rounds and ranks divide them. Waits for nothing that the
        update does not wait for.
        """
        self._update.is_torn = False
        rates = self._set_rates(steps_taken)
        loss = torch.zeros((), device=self._device.device)
        for number, one in enumerate(rounds.all):
            is_last = number == len(rounds.all) - 1
            with self._update.round(is_last=is_last), self._dropout_at(steps_taken, one.number):
                part = self._forward(one.batch, steps_taken).sum() / rounds.images
                if one.is_stand_in:
                    part = part * 0
                self._update.backward(part)
            loss += part.detach()
        outcome = self._update.finish(loss)
        self._metrics.record(loss, outcome.norm, outcome.bad, outcome.overflow)
        self._update.is_torn = False
        return rates

    def drop_gradients(self) -> None:
        """Forget those of a step that did not come to its end."""
        self._update.drop_gradients()

    def state(self) -> dict[str, Any]:
        """What the next step takes from those before it, besides weights and optimizer."""
        return self._update.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `state` returned it."""
        self._update.load_state(state)

    def _dropout_at(self, *place: int) -> AbstractContextManager[None]:
        """Dropout layers draw from torch's global generator, which is at the step's place while they do."""
        return seeded_globally(self._device.device, self._seed, "dropout", *place) if self._draws else nullcontext()

    def _forward(self, batch: Batch, steps_taken: int) -> Tensor:
        """Weighted loss of each sample, (B,)."""
        objective = self._objective
        places: list[Place] = [
            (steps_taken, sample_id, key.repeat, key.variant)
            for sample_id, key in zip(batch.sample_ids, batch.keys, strict=True)
        ]
        latents = self._latents(batch, self._streams["posterior"], places)
        single = [latent[None] for latent in latents]
        noise = draw_each(objective.noise, single, self._streams["noise"], places)
        mixed = noise
        if objective.input_noise is not as_drawn:
            mixed = draw_each(objective.input_noise, list(noise.split(1)), self._streams["input_noise"], places)
        t = draw_each(objective.timesteps, single, self._streams["timesteps"], places)
        with self._device.autocast():
            conditioning = self._conditioning(batch, places)
            noisy = self._family.schedule.add_noise(latents, mixed, t)
            target = self._family.schedule.target(latents, noise, t)
            losses: Tensor = self.losses(self._device.lay_out(noisy), t, conditioning, target, batch)
        return losses

    @torch.no_grad()
    def measure(self, batch: Batch, repeat: int) -> Tensor:
        """The loss of each sample (B,) without any weight, with the noise and timestep that its item always has."""
        places: list[Place] = [(sample_id, repeat) for sample_id in batch.sample_ids]
        streams, objective, schedule = self._validation, self._objective, self._family.schedule
        latents = self._latents(batch, streams["posterior"], places)
        single = [latent[None] for latent in latents]
        noise = draw_each(objective.noise, single, streams["noise"], places)
        t = draw_each(objective.timesteps, single, streams["timesteps"], places)
        with self._device.autocast():
            noisy, target = schedule.add_noise(latents, noise, t), schedule.target(latents, noise, t)
            prediction = self._family.predict(self._device.lay_out(noisy), t, self._encoded(batch), batch.geometry)
            return objective.loss(prediction, target, t, batch)

    def _losses(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, target: Tensor, batch: Batch) -> Tensor:
        """Denoiser, loss and weight: the part that `torch.compile` takes whole."""
        prediction = self._predict(noisy, t, conditioning, target, batch)
        return self._objective.loss(prediction, target, t, batch) * self._objective.weight(t, batch)

    def _predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, target: Tensor, batch: Batch) -> Tensor:
        return self._family.predict(noisy, t, conditioning, batch.geometry)

    def _latents(self, batch: Batch, streams: PlaceStreams, places: Sequence[Place]) -> Tensor:
        """A draw from the posterior of each picture's latent, (B, C, h, w) float32."""
        if batch.pixels is None:
            mean, deviation = batch.latents["mean"], batch.latents["deviation"]
        else:
            mean, deviation = encode_pictures(self._family, batch.pixels)
        return mean + deviation * draw_each(POSTERIOR_NOISE, list(mean.split(1)), streams, places)

    def _conditioning(self, batch: Batch, places: Sequence[Place]) -> Conditioning:
        """What the captions say, after the plugins that change it, each sample by itself."""
        encoded, streams = self._encoded(batch), self._streams["conditioning"]
        change: Callable[[Conditioning, Any], Conditioning] = self._objective.conditioning
        if change is unchanged:
            return encoded
        singles = [{name: part[row : row + 1] for name, part in encoded.items()} for row in range(len(places))]
        changed = [change(one, streams.at(*place)) for one, place in zip(singles, places, strict=True)]
        return {name: torch.cat([one[name] for one in changed]) for name in encoded}

    def _encoded(self, batch: Batch) -> Conditioning:
        """Of the cache or the text encoders, in float32, with a gradient where a text encoder is trained."""
        found: Conditioning = batch.embeddings
        if not found:
            found = self._encode(batch.tokens)
        return {name: part.float() if part.is_floating_point() else part for name, part in found.items()}

    def _set_rates(self, steps_taken: int) -> dict[str, float]:
        factor = self._factor(steps_taken)
        rates = {group.name: group.learning_rate * factor for group in self._groups}
        for table in self._optimizer.param_groups:
            table["lr"] = rates[table["name"]]
        return rates
