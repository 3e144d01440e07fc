"""Derive tests/golden/csm.npz from torchtune 0.4.0 and transformers 5.23.0, in .venv-peers: `make golden`.

--full compares CSM-1B's own size directly, with random weights, and writes nothing: 9 GB of memory, minutes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchtune.models.llama3_1 import Llama3ScaledRoPE

from models.csm.model import CsmModel
from models.csm.names import tensor_shapes
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CONTEXT_ROWS, CSM_1B, CSM_TINY, MIMI_BINS, CsmShape
from tests.golden import csm_case as case
from tests.models.csm.checkpoints import as_transformers
from tests.models.csm.golden import GOLDEN, greedy
from tests.peers import transformers_csm as theirs
from tests.peers.torchtune_csm import TorchtuneCsm

AGREEMENT = 1e-4


def rope_tables() -> dict[str, Tensor]:
    return {
        f"rope_{dim}": Llama3ScaledRoPE(dim, CONTEXT_ROWS, 500_000, 32).cache[list(case.ROPE_POSITIONS)]
        for dim in case.HEAD_DIMS
    }


def torchtune_of(shape: CsmShape, source: RandomTensors) -> TorchtuneCsm:
    return TorchtuneCsm(shape, list(tensor_shapes(shape)), lambda name: source[name].float())


def answers_of_torchtune(oracle: TorchtuneCsm) -> dict[str, Tensor]:
    hidden = oracle.hidden_states(torch.from_numpy(case.rows()).long())
    forced = oracle.forced_logits(hidden[list(case.FORCED_ROWS)], torch.from_numpy(case.forced_codes()))
    return {"hidden": hidden[list(case.HIDDEN_ROWS)], "logits": forced}


def margin_of(oracle: TorchtuneCsm, greedy_codes: Tensor) -> float:
    """By how much each greedy code beats the next best, at least. Negative: torchtune would not choose it."""
    before = torch.from_numpy(case.rows()).long()
    said = torch.cat([greedy_codes, torch.full((len(greedy_codes), 1), -1)], 1)
    hidden = oracle.hidden_states(torch.cat([before, said]))[len(before) - 1 : -1]
    logits = oracle.forced_logits(hidden, greedy_codes)[..., :MIMI_BINS]
    chosen = logits.gather(2, greedy_codes[..., None])
    others = logits.scatter(2, greedy_codes[..., None], float("-inf")).amax(2, keepdim=True)
    return float((chosen - others).min())


def answers_of_transformers(shape: CsmShape, source: RandomTensors) -> dict[str, Tensor]:
    stored = as_transformers({name: source[name] for name in source}, shape)
    # Each let go once it is widened: CSM-1B would not fit twice.
    oracle = theirs.build(shape, {name: stored.pop(name).float() for name in list(stored)})
    inputs = theirs.embedded(oracle, case.segments(), case.last_text())
    hidden = theirs.hidden_states(oracle, inputs)
    codes = torch.from_numpy(case.forced_codes())
    return {
        "hidden": hidden[list(case.HIDDEN_ROWS)],
        "logits": theirs.forced_logits(oracle, hidden[list(case.FORCED_ROWS)], codes),
        "greedy": theirs.greedy(oracle, inputs, case.GREEDY_CODEC_FRAMES),
    }


def answers_of_ours(shape: CsmShape, source: RandomTensors) -> dict[str, Tensor]:
    model = CsmModel(shape, source)
    rows = torch.from_numpy(case.rows())
    hidden = model.hidden_states(rows)
    codes = torch.from_numpy(case.forced_codes())
    return {
        "hidden": hidden[list(case.HIDDEN_ROWS)],
        "logits": model.forced_logits(hidden[list(case.FORCED_ROWS)], codes),
        "greedy": greedy(model, rows, case.GREEDY_CODEC_FRAMES),
    }


def compare(one: dict[str, Tensor], other: dict[str, Tensor], who: str) -> bool:
    """Print and judge how two implementations agree."""
    agree = True
    for what in ("hidden", "logits"):
        difference = float((one[what] - other[what]).abs().max())
        agree &= difference <= AGREEMENT
        print(f"{who}: {what} differ by at most {difference:.1e} (of {float(one[what].abs().max()):.1f})")
    if "greedy" in one and "greedy" in other:
        equal = torch.equal(one["greedy"], other["greedy"])
        agree &= equal
        print(f"{who}: greedy codes {'equal' if equal else 'DIFFER'}")
    return agree


def derive(path: Path) -> bool:
    source = RandomTensors(CSM_TINY, case.SEED)
    oracle = torchtune_of(CSM_TINY, source)
    tune, hf = answers_of_torchtune(oracle), answers_of_transformers(CSM_TINY, source)
    agree = compare(tune, hf, "torchtune and transformers")
    margin = margin_of(oracle, hf["greedy"])
    distinct = len(hf["greedy"].unique())
    print(f"{distinct} distinct of {hf['greedy'].numel()} greedy codes, each best by {margin:.1e} at least")
    agree &= margin > 3 * AGREEMENT and distinct > 100
    entries = torch.from_numpy(case.kept_entries()).expand(len(case.FORCED_ROWS), -1, -1)
    np.savez_compressed(
        path,
        **{name: table.numpy() for name, table in rope_tables().items()},
        hidden=tune["hidden"].numpy(),
        logits=hf["logits"].gather(2, entries).numpy(),
        logsumexp=hf["logits"].logsumexp(2).numpy(),
        greedy=hf["greedy"].numpy().astype(np.int16),
    )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return agree


def compare_full() -> bool:
    """One implementation in memory at a time."""
    source = RandomTensors(CSM_1B, case.SEED)
    ours = answers_of_ours(CSM_1B, source)
    agree = compare(ours, answers_of_torchtune(torchtune_of(CSM_1B, source)), "ours and torchtune, CSM-1B")
    return agree & compare(ours, answers_of_transformers(CSM_1B, source), "ours and transformers, CSM-1B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path, default=GOLDEN)
    asked = parser.parse_args()
    torch.manual_seed(0)
    sys.exit(0 if (compare_full() if asked.full else derive(asked.out)) else 1)


if __name__ == "__main__":
    main()
