import numpy as np
import pytest
import torch
from torch import Tensor

from models.csm.finetune.loss import Frozen, codebook0_loss, codebook_losses, trained_names
from models.csm.model import CsmModel
from models.csm.names import tensor_shapes
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_1B, CSM_TINY


def made(n: int = 6) -> tuple[RandomTensors, Frozen, dict[str, Tensor], Tensor, Tensor]:
    source = RandomTensors(CSM_TINY, 1)
    frozen = Frozen.of(CSM_TINY, source["audio_embeddings.weight"], source["codebook0_head.weight"])
    parameters = {name: source[name].float().requires_grad_() for name in trained_names(CSM_TINY)}
    numbers = np.random.default_rng(0)
    hidden = torch.from_numpy(numbers.standard_normal((n, CSM_TINY.backbone.dim), np.float32))
    codes = torch.from_numpy(numbers.integers(0, 2048, (n, 32)))
    return source, frozen, parameters, hidden, codes


def test_losses_are_those_of_the_model_that_speaks() -> None:
    source, frozen, parameters, hidden, codes = made()
    logits = CsmModel(CSM_TINY, source).forced_logits(hidden, codes)
    probabilities = logits.double().log_softmax(-1).gather(-1, codes.unsqueeze(-1))[..., 0]
    expected = -probabilities.mean(0)
    found = codebook_losses(frozen, parameters, hidden, codes)
    torch.testing.assert_close(found.double(), expected[1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        codebook0_loss(frozen, hidden, codes).double(), expected[0], rtol=1e-5, atol=1e-5
    )


def test_every_trained_tensor_has_a_gradient_and_nothing_leads_to_codebook_0() -> None:
    _, frozen, parameters, hidden, codes = made()
    codebook_losses(frozen, parameters, hidden, codes).mean().backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in parameters.values())
    assert not codebook0_loss(frozen, hidden, codes).requires_grad


def test_the_loss_falls_along_its_gradient() -> None:
    _, frozen, parameters, hidden, codes = made()
    before = codebook_losses(frozen, parameters, hidden, codes).mean()
    before.backward()
    with torch.no_grad():
        for tensor in parameters.values():
            assert tensor.grad is not None
            tensor -= 1e-3 * tensor.grad
        slope = sum(
            float(tensor.grad.square().sum()) for tensor in parameters.values() if tensor.grad is not None
        )
        after = codebook_losses(frozen, parameters, hidden, codes).mean()
    assert float(before.detach() - after) == pytest.approx(1e-3 * slope, rel=0.1)


def test_what_is_trained_is_what_was_published() -> None:
    """Tachyeon/csm-1b-conversational-finetuned: 37 tensors, 1 and 1, in bfloat16."""
    shapes = tensor_shapes(CSM_1B)
    sizes: dict[str, int] = {}
    for name in trained_names(CSM_1B):
        part = name.split(".")[0]
        sizes[part] = sizes.get(part, 0) + 2 * int(np.prod(shapes[name]))
    assert sizes == {"decoder": 222_316_544, "audio_head": 130_213_888, "projection": 4_194_304}
    assert len(trained_names(CSM_1B)) == 39
    assert sum(2 * int(np.prod(shape)) for shape in shapes.values()) == 3_105_583_104
