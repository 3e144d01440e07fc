"""Peers of the voice, timed from `maya bench csm` in their own environment (`infra/setup/peers.sh`).

A worker: it loads one peer with random weights, then answers each line of standard input, a JSON list
[name, *arguments], with a JSON object {"cpu_ms", "wall_ms"} for that piece of work alone. Nothing of this
project is imported here.

Sources: transformers 5.23 `CsmGenerationMixin._sample` (one CodecFrame is a backbone forward, then
`depth_decoder.generate`), moshi 0.2.13 `MimiModel.streaming`.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

CODEBOOKS = 32


class TransformersCsm:
    """CSM-1B in fp32 with transformers' own generation of the 31 codes; the backbone keeps its cache."""

    def __init__(self) -> None:
        from transformers import CsmConfig, CsmForConditionalGeneration
        from transformers.cache_utils import DynamicCache

        rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0}
        # What sesame/csm-1b's config.json says; the defaults have no scaling at all.
        backbone = {
            "low_freq_factor": 0.125,
            "high_freq_factor": 0.5,
            "original_max_position_embeddings": 1024,
        }
        depth = {
            "low_freq_factor": 0.001953125,
            "high_freq_factor": 0.0078125,
            "original_max_position_embeddings": 16,
        }
        config = CsmConfig(
            rope_parameters=rope | backbone, depth_decoder_config={"rope_parameters": rope | depth}
        )
        self._model = CsmForConditionalGeneration(config).eval()
        self._new_cache = DynamicCache
        self._depth_ids = torch.zeros((1, 2), dtype=torch.long)
        self._codes: torch.Tensor | None = None
        self.begin(200)

    def begin(self, rows: int) -> None:
        """Prefill `rows` text rows into a fresh cache."""
        self._cache = self._new_cache()
        self._forward(torch.arange(rows)[None] % 1000)

    def codec_frame(self) -> None:
        hidden = self._hidden if self._codes is None else self._forward(self._codes)
        depth: Any = self._model.depth_decoder.generate(
            input_ids=self._depth_ids,
            backbone_last_hidden_state=hidden.clone(),
            min_new_tokens=CODEBOOKS - 1,
            max_new_tokens=CODEBOOKS - 1,
        )
        codes = depth if isinstance(depth, torch.Tensor) else depth.sequences
        self._codes = codes[:, None, 1:]

    def _forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        made = self._model(
            input_ids=input_ids,
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=True,
            logits_to_keep=1,
        )
        hidden: torch.Tensor = made.hidden_states[-1][:, -1, :]
        made.logits.argmax(-1)
        self._hidden = hidden
        return hidden


class MoshiMimi:
    """Mimi's streaming decoder, one CodecFrame a step."""

    def __init__(self, slots: int = 1) -> None:
        from moshi.models import loaders

        self._mimi = loaders.get_mimi(None, device="cpu").eval()
        self._mimi.set_num_codebooks(CODEBOOKS)
        self._mimi.streaming_forever(slots)
        self._codes = torch.randint(0, 2048, (slots, CODEBOOKS, 1))

    def decode(self) -> None:
        self._mimi.decode(self._codes)


PEERS: dict[str, Callable[[], Any]] = {"transformers": TransformersCsm, "moshi": MoshiMimi}


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    with torch.inference_mode():
        peer = PEERS[sys.argv[1]]()
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            cpu, wall = time.process_time(), time.perf_counter()
            getattr(peer, name)(*arguments)
            took = {
                "cpu_ms": (time.process_time() - cpu) * 1e3,
                "wall_ms": (time.perf_counter() - wall) * 1e3,
            }
            print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
