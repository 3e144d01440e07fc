"""llama.cpp's C API as the engine needs it: one model, one context, batches of (sequence, position, token).

Thin on purpose: no chat, no scheduling. Everything here blocks; a `Context` belongs to one thread.
Names are those of `llama.h` as wrapped by llama-cpp-python 0.3.36, `llama_cpp/llama_cpp.py`.
"""

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import ModelFailed, ModelMissing
from models.llama.scheduler import Entry

_log = logging.getLogger(__name__)


@cache
def library() -> Any:
    """The `llama_cpp.llama_cpp` module, loaded and silenced once per process.

    GNU OpenMP's threads wait for each other by spinning, hundreds of times in every token. That is right on
    idle cores, and ruinous where a transcriber or a media loop wants one of them: with one of two cores busy,
    Qwen2.5-1.5B decoded 7.7 tokens/s spinning and 17 sleeping (prompt: 34 and 45; 1 thread: 10 and 12-21);
    idle, 29 and 21 (prompt: 92 and 85). So they sleep, unless the operator has set one of libgomp's
    variables, which it reads when it is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from llama_cpp import llama_cpp

    llama_cpp.llama_log_set(_log_callback(llama_cpp), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@cache
def _log_callback(lib: Any) -> Any:
    """Kept alive by the cache: llama.cpp calls it for as long as the process lives."""

    def forward(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", "replace").rstrip()
        if line and line != ".":
            _log.debug("%s", line)

    return lib.llama_log_callback(forward)


class Model:
    """Weights and vocabulary of one GGUF file. Raises `ModelMissing` when it is absent or damaged."""

    def __init__(
        self, gguf: Path, *, gpu_layers: int = 0, main_gpu: int = 0, vocabulary_only: bool = False
    ) -> None:
        self._lib = library()
        self._handle: Any = None
        if not gguf.is_file():
            raise ModelMissing(
                f"{gguf}: no such file; expected a GGUF language model (see `maya models list`)"
            )
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        if gpu_layers:
            # llama.cpp would spread the layers over all devices, also those that the voice was put on.
            params.split_mode = self._lib.LLAMA_SPLIT_MODE_NONE
            params.main_gpu = main_gpu
        params.vocab_only = vocabulary_only
        self._handle = self._lib.llama_model_load_from_file(os.fsencode(gguf), params)
        if not self._handle:
            raise ModelMissing(
                f"{gguf}: llama.cpp cannot read this file as a GGUF language model; "
                "it is damaged or of an unknown kind (`maya models verify` checks it)"
            )
        self._vocab = self._lib.llama_model_get_vocab(self._handle)
        self.vocabulary_size: int = self._lib.llama_vocab_n_tokens(self._vocab)
        self.trained_context: int = self._lib.llama_model_n_ctx_train(self._handle)
        self._piece = ctypes.create_string_buffer(256)
        self._in_use = threading.Lock()

    @property
    def handle(self) -> Any:
        return self._handle

    def chat_template(self) -> str:
        """The Jinja source in `tokenizer.chat_template`, "" if there is none."""
        source = self._lib.llama_model_chat_template(self._handle, None)
        return source.decode("utf-8", "replace") if source else ""

    def metadata(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(512)
        length = self._lib.llama_model_meta_val_str(self._handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`. With `special`, names such as `<|im_end|>` become control tokens; without,
        they are ordinary characters. BOS is never added. Any thread may call it; `ModelFailed` after
        `close`."""
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 8
        tokens = (self._lib.llama_token * capacity)()
        with self._in_use:
            if not self._handle:
                raise ModelFailed("the language model has been shut down")
            count = self._lib.llama_tokenize(self._vocab, data, len(data), tokens, capacity, False, special)
        if count < 0:
            raise ModelFailed(f"the text of {len(data)} bytes could not be tokenized")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that `token` stands for, possibly part of a UTF-8 character; empty for control tokens.
        One caller at a time."""
        length = self._lib.llama_token_to_piece(self._vocab, token, self._piece, len(self._piece), 0, False)
        if length < 0:
            self._piece = ctypes.create_string_buffer(-length)
            return self.piece(token)
        return self._piece.raw[:length]

    def ends_reply(self, token: int) -> bool:
        """End-of-generation tokens, and any other control token: none of them is speech."""
        return bool(
            self._lib.llama_vocab_is_eog(self._vocab, token)
            or self._lib.llama_vocab_is_control(self._vocab, token)
        )

    def end_tokens(self) -> tuple[int, ...]:
        """Tokens with which a message or a text ends, such as `<|im_end|>` and `<|endoftext|>`."""
        ends = self._lib.llama_vocab_is_eog
        return tuple(token for token in range(self.vocabulary_size) if ends(self._vocab, token))

    def stop_tokens(self) -> tuple[int, ...]:
        """Tokens that begin with a full stop, a question mark or an exclamation mark. Takes 0.2 s; one caller
        at a time."""
        pieces = map(self.piece, range(self.vocabulary_size))
        return tuple(token for token, piece in enumerate(pieces) if piece.lstrip()[:1] in (b".", b"?", b"!"))

    def matcher(self, grammar: str) -> "GrammarMatcher":
        """At the beginning of `grammar` (GBNF, start symbol `root`). One caller at a time. Raises
        `ModelFailed` when it cannot be read."""
        handle = self._lib.llama_sampler_init_grammar(self._vocab, grammar.encode(), b"root")
        if not handle:
            raise ModelFailed("llama.cpp cannot read the grammar that the reply should follow")
        return GrammarMatcher(self._lib, handle)

    def close(self) -> None:
        with self._in_use:
            if self._handle:
                self._lib.llama_model_free(self._handle)
                self._handle = None


_CANDIDATES = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""


class GrammarMatcher:
    """`models.llama.constraint.Matcher` on llama.cpp's grammar sampler. Not thread-safe. What is not allowed
    must not be accepted: llama.cpp would end the process."""

    def __init__(self, lib: Any, handle: Any) -> None:
        self._lib = lib
        self._handle = handle
        weakref.finalize(self, lib.llama_sampler_free, handle)

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        candidates = np.zeros(len(tokens), _CANDIDATES)
        candidates["id"] = tokens
        array = self._lib.llama_token_data_array()
        array.data = candidates.ctypes.data_as(ctypes.POINTER(self._lib.llama_token_data))
        array.size, array.selected, array.sorted = len(tokens), -1, False
        self._lib.llama_sampler_apply(self._handle, ctypes.byref(array))
        # It marks them where they stand.
        allowed: NDArray[np.bool_] = candidates["logit"] > -np.inf
        return allowed

    def accept(self, token: int) -> None:
        self._lib.llama_sampler_accept(self._handle, token)


class DecodeFailed(Exception):
    """`llama_decode` returned `code`: 1 no room, 2 aborted, negative otherwise."""

    def __init__(self, code: int) -> None:
        super().__init__(f"llama_decode returned {code}")
        self.code = code


class Context:
    """One KV cache shared by `sequences` sequences; not thread-safe.

    The cache is unified, so that `copy` shares cells instead of duplicating them.
    """

    def __init__(
        self, model: Model, *, context_tokens: int, sequences: int, batch_tokens: int, threads: int
    ) -> None:
        self._lib = lib = library()
        self._model = model
        params = lib.llama_context_default_params()
        params.n_ctx = context_tokens
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise ModelFailed(
                f"llama.cpp could not set up a context of {context_tokens} tokens for {sequences} sequences; "
                "choose fewer, or free some memory"
            )
        self._memory = lib.llama_get_memory(self._handle)
        self._batch = lib.llama_batch_init(batch_tokens, 0, 1)
        self._capacity = batch_tokens

    def decode(self, entries: Sequence[Entry]) -> dict[Entry, NDArray[np.float32]]:
        """Evaluate `entries` in one pass. Returns, for each entry that wants logits, its (vocabulary_size,)
        float32 row, valid until the next call. Raises `DecodeFailed`."""
        if not 0 < len(entries) <= self._capacity:
            raise ValueError(f"{len(entries)} entries in a batch of at most {self._capacity}")
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, entry in enumerate(entries):
            batch.token[i] = entry.token
            batch.pos[i] = entry.position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = entry.sequence
            batch.logits[i] = entry.wants_logits
        code = self._lib.llama_decode(self._handle, batch)
        if code != 0:
            raise DecodeFailed(code)
        return {entry: self._logits(i) for i, entry in enumerate(entries) if entry.wants_logits}

    def _logits(self, index: int) -> NDArray[np.float32]:
        pointer = self._lib.llama_get_logits_ith(self._handle, index)
        if not pointer:
            raise DecodeFailed(-1)
        return np.ctypeslib.as_array(pointer, shape=(self._model.vocabulary_size,))

    def copy(self, source: int, target: int) -> None:
        """`target` shares every cell of `source`."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def truncate(self, sequence: int, length: int) -> None:
        """Keep positions below `length`."""
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise ModelFailed(f"this model's memory cannot be cut at token {length}")

    def length(self, sequence: int) -> int:
        """Tokens held for `sequence`."""
        last: int = self._lib.llama_memory_seq_pos_max(self._memory, sequence)
        return last + 1

    def close(self) -> None:
        if self._handle:
            self._lib.llama_batch_free(self._batch)
            self._lib.llama_free(self._handle)
            self._handle = None
