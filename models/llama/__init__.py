"""Chat on llama.cpp: one model and one context serve every call, a sequence each."""

from models.llama.chat import LlamaChat, LlamaSession

__all__ = ["LlamaChat", "LlamaSession"]
