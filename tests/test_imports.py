"""The core is installed without torch: nothing but the tensor files may import it."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('torch', 'safetensors', 'tokenizers', 'moshi')));"
MODULES = (
    "infra.cli",
    "infra.doctor",
    "infra.loading",
    "models.checks",
    "models.load",
    "models.voices",
    "models.csm.engine",
    "models.csm.files",
    "models.csm.host",
    "models.csm.memory",
    "models.csm.scheduler",
    "models.csm.shapes",
    "models.csm.stepping",
    "pipeline.call",
    "pipeline.service",
)


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_core_does_without_torch() -> None:
    done = run(f"{WITHOUT} import {', '.join(MODULES)}")
    assert done.returncode == 0, done.stderr


def test_help_imports_no_model_library() -> None:
    heavy = "{'torch', 'numpy', 'ctranslate2', 'llama_cpp', 'onnxruntime'}"
    done = run(f"import sys, infra.cli; print({heavy} & set(sys.modules) or 'none')")
    assert done.stdout.strip() == "none", done.stderr


@pytest.mark.models
def test_a_voice_without_torch_names_the_extra_to_install(tmp_path: Path) -> None:
    (tmp_path / "model_merged.pt").write_bytes(b"PK")
    (tmp_path / "mimi.safetensors").write_bytes(b"{")
    options = ["say", "Hello.", "--profile", "scripted", "--tts", str(tmp_path), "--devices", "tts=cpu"]
    done = run(f"{WITHOUT} sys.argv[1:] = {options!r}; from infra.cli import main; main()")
    assert done.returncode == 2, done.stderr
    assert "maya-voice[csm]" in done.stderr
    assert "Traceback" not in done.stderr
