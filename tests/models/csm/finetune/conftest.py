from collections.abc import Iterator

import pytest
import torch

from models.csm.files import CsmFiles, find_csm_files
from models.csm.random_weights import save_random
from models.csm.shapes import CSM_TINY
from models.csm.text import TextTokenizer, save_byte_tokenizer


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tensors are tiny here: threads would wait for one another more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> CsmFiles:
    """A tiny random CSM, Mimi and a tokenizer of bytes on disk."""
    folder = tmp_path_factory.mktemp("base")
    save_random(folder, CSM_TINY, 3)
    save_byte_tokenizer(folder / "tokenizer.json")
    return find_csm_files(folder)


@pytest.fixture(scope="session")
def tokenizer(base: CsmFiles) -> TextTokenizer:
    return TextTokenizer.open(base.base.parent)
