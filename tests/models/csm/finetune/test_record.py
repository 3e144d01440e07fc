import math
from pathlib import Path

from matplotlib import image

from models.csm.finetune.record import CODEBOOK_COLUMNS, METRICS, Record, draw_curves, read_metrics


def filled(folder: Path, steps: range) -> None:
    record = Record(folder, steps.start - 1)
    for step in steps:
        row = {"step": step, "train_loss": 1.0 / (step + 1), "rate": 1e-4, "gradient_norm": 0.5}
        if step % 2 == 0:
            row |= {"val_loss": 2.0 / (step + 1)} | dict.fromkeys(CODEBOOK_COLUMNS, 0.25)
        record.add(row)
    record.close()


def test_rows_come_back_with_gaps_where_nothing_was_validated(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 6))
    metrics = read_metrics(tmp_path)
    assert metrics["step"] == [1, 2, 3, 4, 5]
    assert math.isnan(metrics["val_loss"][0]) and metrics["val_codebook_31"][1] == 0.25


def test_a_record_taken_up_again_drops_what_came_after(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 8))
    whole = (tmp_path / METRICS).read_text()
    filled(tmp_path, range(4, 6))
    assert whole.startswith((tmp_path / METRICS).read_text())
    assert read_metrics(tmp_path)["step"] == [1, 2, 3, 4, 5]


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 4))
    path = tmp_path / METRICS
    path.write_text(path.read_text()[:-5])
    Record(tmp_path, 10).close()
    assert read_metrics(tmp_path)["step"] == [1, 2]


def test_curves_are_a_picture(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 8))
    path = draw_curves(tmp_path)
    assert path is not None
    assert image.imread(path).shape[:2] == (550, 1430)
