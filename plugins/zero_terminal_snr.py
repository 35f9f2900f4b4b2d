"""A noise schedule that ends in noise alone, so that pictures may be wholly dark or bright."""

from typing import Any

from events import Plugin, PluginSettings, build
from events.payloads import ModelContext


class ZeroTerminalSnr(Plugin):
    """Shift and scale sqrt(abar) so that it is 0 at the last timestep and as before at the first.

    Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", arXiv:2305.08891, algorithm 1. With
    no signal left there is no telling the noise from x_t, so the model has to predict v. Previews and exports have the
    rescaled schedule too, and sample at the timesteps that the paper calls trailing, from the last one on.
    """

    class Settings(PluginSettings):
        pass

    @build("scheduler")
    def rescale(self, scheduler: Any, context: ModelContext) -> Any:
        """Raises ValueError for a model that does not predict v."""
        import diffusers

        prediction = scheduler.config.get("prediction_type", "flow")
        if prediction != "v_prediction":
            raise ValueError(
                f"a schedule that ends in noise alone needs a model that predicts v, and this one predicts {prediction};"
                ' leave the plugin out, or train towards it with model.prediction = "v_prediction"'
            )
        kind = type(scheduler) if "rescale_betas_zero_snr" in scheduler.config else diffusers.DDIMScheduler
        return kind.from_config(scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")
