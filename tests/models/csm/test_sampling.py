import torch

from models.csm.sampling import TOP_K, Draw, Noise, choose, gumbel, noise_keys, without_end
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, MIMI_BINS


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def draw(rows, temperature=0.9, first_seed=0):
    seeds = torch.arange(first_seed, first_seed + rows) * 7919 + 2**62
    return Draw(seeds, torch.arange(rows), torch.full((rows,), temperature), torch.ones(rows).bool())


def test_temperature_0_takes_the_most_probable_code():
    logits, asked = normal(6, AUDIO_VOCABULARY), draw(6, temperature=0.0)
    codes, best = choose(logits, 3, Noise(asked, ahead=False), asked.temperature)
    assert torch.equal(codes, logits[:, :MIMI_BINS].argmax(1))
    assert torch.equal(best, logits[:, :MIMI_BINS].amax(1))


def test_the_last_of_mimis_codes_can_be_chosen_and_the_best_logit_is_told_without_noise():
    logits = normal(3, AUDIO_VOCABULARY)
    logits[:, MIMI_BINS - 1] = 99.0
    for temperature in (0.0, 0.9):
        asked = draw(3, temperature)
        codes, best = choose(logits, 7, Noise(asked, ahead=False), asked.temperature)
        assert codes.tolist() == [2047] * 3 and best.tolist() == [99.0] * 3


def test_50_codes_can_be_drawn_and_no_more():
    """Sesame's `generator.py`; at so high a temperature all of them are as likely."""
    logits = torch.linspace(0, 1, AUDIO_VOCABULARY).expand(2_000, -1)
    asked = draw(2_000, 1e4)
    codes, _ = choose(logits, 0, Noise(asked, ahead=False), asked.temperature)
    assert codes.unique().tolist() == list(range(MIMI_BINS - 50, MIMI_BINS))


def test_draws_follow_the_softmax_of_the_best_50():
    logits = normal(AUDIO_VOCABULARY) * 2
    rows, temperature = 40_000, 0.8
    asked = draw(rows, temperature)
    codes, _ = choose(logits.expand(rows, -1), 0, Noise(asked, ahead=False), asked.temperature)
    best, places = logits[:MIMI_BINS].topk(TOP_K)
    expected = torch.softmax(best / temperature, 0) * rows
    counts = torch.bincount(codes, minlength=MIMI_BINS)
    assert counts[places].sum() == rows, "and nothing outside them"
    chi_square = ((counts[places] - expected) ** 2 / expected).sum()
    assert chi_square < 85, "49 degrees of freedom: p = 0.001"


def test_codes_that_mimi_has_not_are_never_taken():
    logits = normal(64, AUDIO_VOCABULARY)
    logits[:, MIMI_BINS:] = 1e4
    for temperature in (0.0, 5.0):
        asked = draw(64, temperature)
        codes, _ = choose(logits, 1, Noise(asked, ahead=False), asked.temperature)
        assert codes.max() < MIMI_BINS


def test_noise_is_a_function_of_seed_codec_frame_codebook_and_code():
    asked = draw(5)
    codes = torch.randint(0, MIMI_BINS, (5, TOP_K), generator=torch.Generator().manual_seed(0))
    noise, ahead = Noise(asked, ahead=False), Noise(asked, ahead=True)
    for codebook in (0, 1, 31):
        found = noise.of(codebook, codes)
        assert torch.equal(ahead.of(codebook, codes), found)
        for row in range(5):
            alone = Draw(
                *(part[row : row + 1] for part in (asked.seeds, asked.index, asked.temperature)), None
            )
            assert torch.equal(Noise(alone, ahead=False).of(codebook, codes[row : row + 1])[0], found[row])


def test_each_codebook_draws_with_noise_of_its_own():
    logits, asked = normal(64, AUDIO_VOCABULARY), draw(64, 5.0)
    noise = Noise(asked, ahead=False)
    drawn = [choose(logits, book, noise, asked.temperature)[0] for book in (0, 1, 31)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (drawn[one] == drawn[other]).sum() < 20


def test_no_two_draws_share_their_noise():
    seeds = torch.arange(200).repeat_interleave(50)
    keys = noise_keys(seeds, torch.arange(50).repeat(200))
    assert keys.shape == (10_000, CODEBOOKS) and keys.unique().numel() == keys.numel()
    high = noise_keys(1 << torch.arange(63), torch.zeros(63).long())
    assert high.unique().numel() == high.numel(), "every bit of a seed counts"
    together = torch.stack([gumbel(keys[:, book, None], torch.zeros(1).long())[:, 0] for book in (0, 1)])
    assert torch.corrcoef(together)[0, 1].abs() < 0.04


def test_noise_is_standard_gumbel_and_finite():
    noise = gumbel(torch.arange(500).unsqueeze(1) * 2**54, torch.arange(MIMI_BINS))
    assert noise.isfinite().all()
    assert abs(noise.mean() - 0.5772) < 0.01 and abs(noise.var() - torch.pi**2 / 6) < 0.02


def test_the_end_can_be_barred():
    logits = normal(3, AUDIO_VOCABULARY)
    logits[:, 0] = 50.0
    barred = without_end(logits, torch.tensor([False, True, False]))
    codes, best = choose(barred, 0, Noise(draw(3), ahead=False), torch.zeros(3))
    assert codes[1] == 0 and 0 not in codes[[0, 2]] and best.isfinite().all()
    assert torch.equal(barred[:, 1:], logits[:, 1:])


def test_logits_that_are_not_numbers_are_told_and_give_codes_in_range():
    logits = normal(5, AUDIO_VOCABULARY)
    logits[1, 700], logits[2, 9], logits[3] = float("nan"), float("inf"), float("nan")
    asked = draw(5)
    codes, best = choose(logits, 2, Noise(asked, ahead=False), asked.temperature)
    assert best.isfinite().tolist() == [True, False, False, False, True]
    assert codes.min() >= 0 and codes.max() < MIMI_BINS
