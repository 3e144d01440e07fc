import json
import random

import numpy as np
import pytest

from bench.report import Report, percentile, rate, spread, wilson_interval


def test_percentiles_agree_with_numpy() -> None:
    values = [random.Random(1).uniform(0, 1000) for _ in range(77)]
    for percent in (0, 5, 50, 95, 100):
        assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_p95_stands_only_on_sixty_values() -> None:
    assert spread("gap", [float(n) for n in range(59)]) == {"gap_p50_ms": 29, "gap_max_ms": 58, "gap_n": 59}
    assert spread("gap", [float(n) for n in range(60)])["gap_p95_ms"] == 56
    assert spread("gap", []) == {"gap_n": 0}


def test_wilson_interval_of_published_examples() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)
    assert rate("answered", 1, 29)["answered_interval"] == pytest.approx([0.0061, 0.1718], abs=1e-4)
    with pytest.raises(ValueError, match="no rate"):
        wilson_interval(0, 0)


def test_the_report_names_machine_and_load() -> None:
    document = json.loads(Report({"wer": np.float64(0.04), "n": np.int64(3)}).to_json())
    assert set(document) == {"machine", "load", "figures"}
    assert document["figures"] == {"wer": 0.04, "n": 3}
    assert document["machine"]["cores"] >= 1
    assert document["load"]["load_1_min"] >= 0
