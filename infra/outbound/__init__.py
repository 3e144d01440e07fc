"""Calls that we make: what may be dialled, when and how often, and the queue that does it."""
