"""What a run measured: metrics.csv as it goes, curves.png of it, and events where there is TensorBoard."""

import csv
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.csm.shapes import CODEBOOKS

_log = logging.getLogger(__name__)

METRICS = "metrics.csv"
CURVES = "curves.png"
CODEBOOK_COLUMNS = [f"val_codebook_{number}" for number in range(CODEBOOKS)]
COLUMNS = ["step", "train_loss", "rate", "gradient_norm", "val_loss", *CODEBOOK_COLUMNS]
"""Losses in nats. `val_loss` is the mean over codebooks 1..31; codebook 0 has no part in it and never
changes, for nothing that is trained leads to it. Rows without a validation leave its columns empty."""


class Record:
    """Opened after `step` steps: rows of later ones, which a killed run may have left, are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / METRICS
        rows = [row for row in _whole_rows(self._path) if int(row[0]) <= step]
        part = self._path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        part.replace(self._path)
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._board = _tensorboard(folder, step)

    def add(self, row: Mapping[str, float]) -> None:
        """A step's row: "step" and any of the other columns."""
        shown = {name: f"{value:.9g}" for name, value in row.items()}
        self._writer.writerow(shown | {"step": str(int(row["step"]))})
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name.replace("_", "/", 1), value, int(row["step"]))

    def flush(self) -> None:
        """All rows are on the disk when this returns."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        self.flush()
        self._file.close()
        if self._board is not None:
            self._board.close()


def _whole_rows(path: Path) -> list[list[str]]:
    """A kill may cut the last line short."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [
        row
        for row in csv.reader(line for line in lines[1:] if line.endswith("\n"))
        if len(row) == len(COLUMNS)
    ]


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def read_metrics(folder: Path) -> dict[str, list[float]]:
    """Columns of metrics.csv; an empty cell is not-a-number."""
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for row in _whole_rows(folder / METRICS):
        for name, cell in zip(COLUMNS, row, strict=True):
            columns[name].append(float(cell) if cell else math.nan)
    return columns


def draw_curves(folder: Path) -> Path | None:
    """Draw curves.png from metrics.csv. None without matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        _log.warning("no curves.png: matplotlib is not installed (pip install 'maya-voice[finetune]')")
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = read_metrics(folder)
    figure, (losses, codebooks) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    losses.plot(metrics["step"], metrics["train_loss"], color="#8e9aaf", linewidth=0.7, label="training")
    measured = [place for place, loss in enumerate(metrics["val_loss"]) if not math.isnan(loss)]
    _points(losses, metrics, measured, "val_loss", "#c62828", "validation")
    losses.set(title="Codebooks 1 to 31, mean", xlabel="step", ylabel="cross-entropy, nats")
    losses.legend()
    for number, colour in ((0, "#000000"), (1, "#1f6f8b"), (8, "#5b8e7d"), (16, "#d9822b"), (31, "#bc5090")):
        label = "0, which is not trained" if number == 0 else str(number)
        _points(codebooks, metrics, measured, CODEBOOK_COLUMNS[number], colour, label)
    codebooks.set(title="Validation by codebook", xlabel="step", ylabel="cross-entropy, nats")
    codebooks.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=5, frameon=False)
    part = folder / f".{CURVES}"
    figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)
    part.replace(folder / CURVES)
    return folder / CURVES


def _points(
    axes: Any, metrics: Mapping[str, list[float]], places: Sequence[int], name: str, colour: str, label: str
) -> None:
    steps = [metrics["step"][place] for place in places]
    values = [metrics[name][place] for place in places]
    axes.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.2, label=label)
