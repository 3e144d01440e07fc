"""Mimi's split residual quantizer: codebook 0 on its own, 1..31 on what one projection gives them."""

import torch
from torch import Tensor
from torch.nn import functional

from models.mimi.config import BINS, CODEBOOKS
from models.mimi.linear import Dense
from models.mimi.names import codebook_prefixes
from models.mimi.source import Source

_LEAST_USAGE = 1e-5
"""moshi `EuclideanCodebook.epsilon`: centroids are sums divided by how often they were used."""


class Codebooks:
    """Centroids, (32 * 2048, codebook_dim): row = code + 2048 * codebook. Shared by decoder and encoder."""

    def __init__(self, source: Source) -> None:
        self.table = torch.cat([_centroids(prefix, source) for prefix in codebook_prefixes()])
        self.offsets = BINS * torch.arange(CODEBOOKS, device=self.table.device)

    def of(self, codebook: int) -> Tensor:
        return self.table[codebook * BINS : (codebook + 1) * BINS]


class Dequantizer:
    """Codes to latents. The 31 centroids are summed before their one projection, as it is linear."""

    def __init__(self, source: Source, codebooks: Codebooks) -> None:
        self._codebooks = codebooks
        first, rest = (
            source[f"quantizer.rvq_{part}.output_proj.weight"][:, :, 0] for part in ("first", "rest")
        )
        self._projection = Dense(torch.cat((first, rest), 1))

    def __call__(self, codes: Tensor) -> Tensor:
        """(b, n, 32) int64 -> (b, n, dim). Codes are clamped to [0, 2048): a slot that failed may hold
        anything, and a read outside the table would take the device down with every call on it."""
        rows = codes.clamp(0, BINS - 1) + self._codebooks.offsets
        centroids = functional.embedding(rows, self._codebooks.table)
        return self._projection(torch.cat((centroids[:, :, 0], centroids[:, :, 1:].sum(2)), 2))


class Quantizer:
    """Latents to codes: the nearest centroid, then the nearest to what is left of it, 31 times."""

    def __init__(self, source: Source, codebooks: Codebooks) -> None:
        self._codebooks = codebooks
        first, rest = (
            source[f"quantizer.rvq_{part}.input_proj.weight"][:, :, 0] for part in ("first", "rest")
        )
        self._first, self._rest = Dense(first), Dense(rest)
        self._half_squares = codebooks.table.square().sum(1) / 2

    def __call__(self, latents: Tensor) -> Tensor:
        """(b, n, dim) -> (b, n, 32) int64."""
        codes = [self._nearest(self._first(latents), 0)]
        rest = self._rest(latents)
        for codebook in range(1, CODEBOOKS):
            codes.append(self._nearest(rest, codebook))
            rest = rest - functional.embedding(codes[-1], self._codebooks.of(codebook))
        return torch.stack(codes, 2)

    def _nearest(self, x: Tensor, codebook: int) -> Tensor:
        """The least |x - e|^2 is the least |e|^2 / 2 - x e."""
        half_squares = self._half_squares[codebook * BINS : (codebook + 1) * BINS]
        return (half_squares - functional.linear(x, self._codebooks.of(codebook))).argmin(2)


def _centroids(prefix: str, source: Source) -> Tensor:
    usage = source[f"{prefix}.cluster_usage"].clamp(min=_LEAST_USAGE)
    return source[f"{prefix}.embedding_sum"] / usage[:, None]
