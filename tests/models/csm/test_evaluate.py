import numpy as np
import pytest
import torch

from models.csm.evaluate import CodedClip, GateReport, compare, cross_entropies
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.sampling import Draw
from models.csm.shapes import CSM_TINY

SOURCE = RandomTensors(CSM_TINY, 4)


def clips(n: int = 2, codec_frames: int = 5) -> list[CodedClip]:
    numbers = np.random.default_rng(0)
    return [
        CodedClip(
            [128_000, 65 + clip, 128_001], numbers.integers(0, 2048, (codec_frames + clip, 32), np.int32)
        )
        for clip in range(n)
    ]


def test_cross_entropy_is_that_of_a_call_that_says_these_codes() -> None:
    model = CsmModel(CSM_TINY, SOURCE)
    (clip,) = clips(1)
    rows = np.full((3, 33), -1, np.int32)
    rows[:, 32] = clip.tokens
    cache = model.cache(1, 16)
    hidden = model.prefill(cache, 0, torch.from_numpy(rows), 0)[None]
    expected = []
    one = torch.ones(1, dtype=torch.int64)
    for number, codes in enumerate(
        [*torch.from_numpy(clip.codes).long(), torch.zeros(32, dtype=torch.int64)]
    ):
        likely = model.forced_logits(hidden, codes[None])[0].double().log_softmax(-1)
        expected.append(-likely[torch.arange(32), codes])
        hidden = model.step(cache, codes[None], one * (3 + number), one * 0, one > 0)
    found = cross_entropies(model, [clip])
    np.testing.assert_allclose(found, torch.stack(expected).mean(0).numpy(), rtol=1e-4)


def test_quantised_weights_are_judged_codebook_by_codebook() -> None:
    kinds: list[bool] = []
    told: list[None] = []

    def load(quantised: bool) -> CsmModel:
        kinds.append(quantised)
        return CsmModel(CSM_TINY, SOURCE, weights="w8a8" if quantised else "full")

    report = compare(load, "w8a8", clips(), lambda: told.append(None))
    assert kinds == [False, True] and len(told) == 4
    assert (report.n_clips, report.n_codec_frames) == (2, 13)
    assert len(report.worse) == 32 and any(report.worse)
    assert report.passed == (max(report.worse) < 0.01 and report.mean_worse < 0.01)


def test_broken_weights_fail_the_gate() -> None:
    class Broken:
        def __contains__(self, name: object) -> bool:
            return name in SOURCE

        def __getitem__(self, name: str) -> torch.Tensor:
            tensor = SOURCE[name]
            return tensor.flip(0) if name == "decoder.layers.1.mlp.w2.weight" else tensor

    # On what the whole model says by itself, anything else must do worse.
    model = CsmModel(CSM_TINY, SOURCE)
    said = spoken(model, 8)
    report = compare(lambda quantised: CsmModel(CSM_TINY, Broken() if quantised else SOURCE), "x", [said])
    assert not report.passed and report.mean_worse > 0.01
    same = compare(lambda quantised: model, "full", [said])
    assert same.passed and same.mean_worse == 0


def spoken(model: CsmModel, n: int) -> CodedClip:
    rows = np.full((2, 33), -1, np.int32)
    rows[:, 32] = tokens = [128_000, 128_001]
    cache = model.cache(1, 16)
    one = torch.ones(1, dtype=torch.int64)
    hidden = model.prefill(cache, 0, torch.from_numpy(rows), 0)[None]
    said = []
    for number in range(n):
        codes, _ = model.codec_frame(hidden, Draw(one, one * number, one * 0.9, one > 0))
        said.append(codes[0].numpy().astype(np.int32))
        hidden = model.step(cache, codes, one * (2 + number), one * 0, one > 0)
    return CodedClip(tokens, np.stack(said))


@pytest.mark.parametrize(
    ("quantised", "passed"),
    [
        ([1.0] * 31 + [1.009], True),
        ([1.0] * 31 + [1.011], False),
        ([0.5] * 32, True),
        ([float("nan")] * 32, False),
    ],
)
def test_the_gate_is_one_per_cent(quantised: list[float], passed: bool) -> None:
    assert GateReport("int8", 1, 1, [1.0] * 32, quantised).passed is passed


def test_nothing_to_compare_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no clips"):
        compare(lambda quantised: CsmModel(CSM_TINY, SOURCE), "w8a8", [])
