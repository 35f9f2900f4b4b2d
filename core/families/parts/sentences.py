"""Text encoders that read whole sentences, such as T5 and language models: how many tokens, and where a caption's own are."""

from ...errors import ConfigError


def tokens_to_read(asked: int, *, usual: int, most: int) -> int:
    """`asked` tokens, or the `usual` number for 0. Raises ConfigError for more than the stock pipeline would take."""
    if asked > most:
        raise ConfigError("config", [f"data.max_tokens  {asked}, but this model reads {most} at most"])
    return asked or usual
