"""Calls, turns, tool runs, latencies and places of recordings in SQL, so that they outlive the process."""
