"""What the agent can do besides talking: a persona's Python functions, HTTP requests, and a few built in."""

from pipeline.tools.python import tool
from pipeline.tools.tool import Example, ToolError, ToolFailed

__all__ = ["Example", "ToolError", "ToolFailed", "tool"]
