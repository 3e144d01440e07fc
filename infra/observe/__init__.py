"""What an operator sees of a running server: metrics, traces, logs with the call's id, and its health."""
