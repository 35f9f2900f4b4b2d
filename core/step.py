"""The closed step: forward, backward, clip, optimizer. Nothing is dispatched and nothing waits for the device (P8, P9).

It calls functions that were composed before the first step. A loss or gradient norm that is not finite is found on the
device before any weight has moved, and the optimizer's own kernels then leave weights and state as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from events.catalogue import own_generator
from events.payloads import Batch, Conditioning, LearningRateFunction, ParameterGroup
from events.randomness import Place

from .device import Device
from .encoding import encode_captions, encode_pictures
from .evaluation_weights import has_evaluation_weights
from .families import Family
from .fused_backward import FusedBackward
from .gradient_scale import GradientScale
from .metrics import MetricsRing
from .objective import Objective, as_drawn, gaussian_noise, unchanged
from .optimisation import can_skip_on_device
from .rng import CORE, PlaceStreams, draw_each, draws_in_forward, seeded_globally

POSTERIOR_NOISE = own_generator(gaussian_noise, CORE)


class Step:
    """Takes optimizer steps on batches that are already on the device."""

    def __init__(
        self,
        *,
        family: Family,
        objective: Objective,
        device: Device,
        optimizer: torch.optim.Optimizer,
        groups: tuple[ParameterGroup, ...],
        factor: LearningRateFunction,
        clip_norm: float,
        seed: int,
        metrics: MetricsRing,
        trains_text: bool,
        fused: FusedBackward | None = None,
        compiled: bool = False,
    ) -> None:
        self._family = family
        self._objective = objective
        self._device = device
        self._optimizer: Any = optimizer
        self._prepared = device.prepare_optimizer(optimizer)
        self._groups = groups
        self._parameters: list[nn.Parameter] = [one for group in groups for one in group.parameters.values()]
        self._factor = factor
        self._clip_norm = clip_norm
        self._metrics = metrics
        self._skips_on_device = can_skip_on_device(optimizer)
        self._fused = fused
        self._scale = GradientScale(device.device) if device.scales_gradients else None
        self._trains_text = trains_text
        self._seed = seed
        self._draws = False
        """Whether a trained module has dropout."""
        self.is_torn = False
        """Weights may have been written, and the step has not come to its end: between steps they are of none."""
        self._streams = {
            purpose: PlaceStreams(device.device, seed, purpose)
            for purpose in ("posterior", "noise", "input_noise", "timesteps", "conditioning")
        }
        self._validation = {
            purpose: PlaceStreams(device.device, seed, "validation", purpose)
            for purpose in ("posterior", "noise", "timesteps")
        }
        self.losses = torch.compile(self._losses, fullgraph=True) if compiled else self._losses

    def begin(self) -> None:
        """Before the first step, once plugins have registered what they hook into modules and optimizer."""
        self._draws = any(draws_in_forward(module) for module in self._family.modules.values() if module.training)
        if has_evaluation_weights(self._optimizer):
            self._optimizer.train()
        if self._fused is not None:
            self._fused.attach()

    def take(self, batches: Sequence[Batch], steps_taken: int) -> dict[str, float]:
        """One optimizer step over one batch a round; returns the learning rates it used, by group.

        Every image has the same share in the step, however the rounds divide them. Waits for nothing, except that an
        optimizer which cannot skip on the device is asked once on the host.
        """
        self.is_torn = False
        rates = self._set_rates(steps_taken)
        count = sum(batch.count for batch in batches)
        loss = torch.zeros((), device=self._device.device)
        for number, batch in enumerate(batches):
            with self._dropout_at(steps_taken, number):
                part = self._forward(batch, steps_taken).sum() / count
                self._backward(part)
            loss += part.detach()
        norm = self._clip() if self._fused is None else self._fused.norm()
        bad = ~(loss.isfinite() & norm.isfinite())
        if self._fused is None:
            self._update(bad)
        overflow = None if self._scale is None else self._scale.update(loss, bad)
        self._metrics.record(loss, norm, bad, overflow)
        self.is_torn = False
        return rates

    def drop_gradients(self) -> None:
        """Forget those of a step that did not come to its end."""
        self._prepared.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """What the next step takes from those before it, besides weights and optimizer."""
        return {} if self._scale is None else {"gradient_scale": self._scale.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """A run that scales gradients only now begins with the scale of any other."""
        if self._scale is not None and "gradient_scale" in state:
            self._scale.load_state(state["gradient_scale"])

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
        prediction = self._family.predict(noisy, t, conditioning, batch.geometry)
        return self._objective.loss(prediction, target, t, batch) * self._objective.weight(t, batch)

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
            encode = self._family.encode_text if self._trains_text else partial(encode_captions, self._family)
            found = encode(batch.tokens)
        return {name: part.float() if part.is_floating_point() else part for name, part in found.items()}

    def _backward(self, loss: Tensor) -> None:
        if self._fused is not None:
            self.is_torn = True
            self._fused.begin(loss)
        self._device.backward(loss if self._scale is None else self._scale.scale(loss))

    def _clip(self) -> Tensor:
        """The norm of all gradients together, before they are scaled down to `clip_norm`."""
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        if self._scale is not None:
            self._scale.unscale(gradients)
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self._clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm, foreach=True)
        return norm

    def _update(self, bad: Tensor) -> None:
        if self._skips_on_device:
            self._optimizer.found_inf = bad.to(torch.float32)
            self.is_torn = True
            self._prepared.step()
        elif not bool(bad):  # waits for the device: this optimizer's kernels know no `found_inf`
            self.is_torn = True
            self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)

    def _set_rates(self, steps_taken: int) -> dict[str, float]:
        factor = self._factor(steps_taken)
        rates = {group.name: group.learning_rate * factor for group in self._groups}
        for table in self._optimizer.param_groups:
            table["lr"] = rates[table["name"]]
        return rates
