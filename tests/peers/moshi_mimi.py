"""moshi 0.2.13's Mimi, at its own size and at our tiny one."""

from pathlib import Path
from typing import Any

from moshi.models import loaders

from models.mimi.config import BINS, CODEBOOKS, RATE_HZ, MimiConfig
from models.mimi.moshi_codec import MoshiCodec
from models.mimi.random_mimi import save_random_mimi


class SizedMoshi(MoshiCodec):
    """The adapter over any size that a `MimiConfig` names."""

    def __init__(self, file: Path, config: MimiConfig) -> None:
        self._config = moshi_config(config)
        super().__init__(file)

    def _load(self) -> Any:
        return loaders.get_mimi(self._file, self._config, num_codebooks=CODEBOOKS)


def moshi_config(config: MimiConfig) -> dict[str, Any]:
    """moshi's own settings but for the sizes."""
    seanet = loaders._seanet_kwargs | {
        "dimension": config.dim,
        "n_filters": config.filters,
        "ratios": list(config.strides),
    }
    transformer = loaders._transformer_kwargs | {
        "d_model": config.dim,
        "num_heads": config.heads,
        "num_layers": config.layers,
        "dim_feedforward": config.ffn,
        "context": config.window,
        "max_period": config.rope_base,
        "input_dimension": config.dim,
        "output_dimensions": [config.dim],
    }
    quantizer = {
        "dimension": config.codebook_dim,
        "n_q": CODEBOOKS,
        "bins": BINS,
        "input_dimension": config.dim,
        "output_dimension": config.dim,
    }
    return {
        "sample_rate": RATE_HZ,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": seanet,
        "transformer": transformer,
        "quantizer": quantizer,
    }


def save(file: Path, config: MimiConfig, seed: int) -> Path:
    save_random_mimi(file, seed, tiny=config.name == "mimi-tiny")
    return file
