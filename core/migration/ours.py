"""The bundled plugins that settings of other trainers are taken into, and optimizers by the names others give them."""

AFFIX = "plugins.captions.Affix"
CHOOSE_LINE = "plugins.captions.ChooseLine"
DROP_CAPTION = "plugins.captions.DropCaption"
DROP_TAGS = "plugins.captions.DropTags"
SHUFFLE_TAGS = "plugins.captions.ShuffleTags"
WILDCARDS = "plugins.captions.Wildcards"
DEBIASED = "plugins.debiased.Debiased"
EMA = "plugins.ema.Ema"
EMBEDDING_NOISE = "plugins.embedding_noise.EmbeddingNoise"
GAMMA = "plugins.image_color.Gamma"
HUBER = "plugins.huber.Huber"
INPUT_PERTURBATION = "plugins.input_perturbation.InputPerturbation"
LAST_LAYERS = "plugins.last_layers.LastLayers"
LORA = "plugins.lora.Lora"
MERGE_LORA = "plugins.merge_lora.MergeLora"
MASKED_LOSS = "plugins.masked_loss.MaskedLoss"
METRICS_FILE = "plugins.metrics_file.MetricsFile"
MIN_SNR = "plugins.min_snr.MinSnr"
NOISE_OFFSET = "plugins.noise_offset.NoiseOffset"
PRIOR_PRESERVATION = "plugins.prior_preservation.PriorPreservation"
PROGRESS_BAR = "plugins.progress_bar.ProgressBar"
PYRAMID_NOISE = "plugins.pyramid_noise.PyramidNoise"
TENSORBOARD = "plugins.tensorboard.TensorBoard"
TEXTUAL_INVERSION = "plugins.textual_inversion.TextualInversion"
TIMESTEPS = "plugins.timesteps.Timesteps"
ZERO_TERMINAL_SNR = "plugins.zero_terminal_snr.ZeroTerminalSnr"

OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "pagedadamw": "bitsandbytes.optim.PagedAdamW",
    "pagedadamw8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "pagedadamw32bit": "bitsandbytes.optim.PagedAdamW32bit",
    "lion": "lion_pytorch.Lion",
    "lion8bit": "bitsandbytes.optim.Lion8bit",
    "pagedlion8bit": "bitsandbytes.optim.PagedLion8bit",
    "sgdnesterov": "torch.optim.SGD",
    "sgdnesterov8bit": "bitsandbytes.optim.SGD8bit",
    "adafactor": "transformers.optimization.Adafactor",
    "prodigy": "prodigyopt.Prodigy",
    "dadaptation": "dadaptation.experimental.DAdaptAdamPreprint",
    "dadaptadampreprint": "dadaptation.experimental.DAdaptAdamPreprint",
    "dadaptadagrad": "dadaptation.DAdaptAdaGrad",
    "dadaptadam": "dadaptation.DAdaptAdam",
    "dadaptadan": "dadaptation.DAdaptAdan",
    "dadaptadanip": "dadaptation.experimental.DAdaptAdanIP",
    "dadaptlion": "dadaptation.DAdaptLion",
    "dadaptsgd": "dadaptation.DAdaptSGD",
    "radamschedulefree": "schedulefree.RAdamScheduleFree",
    "adamwschedulefree": "schedulefree.AdamWScheduleFree",
    "sgdschedulefree": "schedulefree.SGDScheduleFree",
}
"""Class by name in small letters without underscores."""
PACKAGES = {"lion_pytorch": "lion-pytorch", "transformers": ""}
"""What to install for an optimizer's module, where it is not its name."""


def optimizer_remark(path: str) -> str:
    """Which package an optimizer needs beside our own."""
    module = path.partition(".")[0]
    package = "" if module == "torch" else PACKAGES.get(module, module)
    return f"needs pip install {package}" if package else ""
