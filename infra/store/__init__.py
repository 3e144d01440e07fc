"""Calls, turns, tool runs, latencies and the places of recordings in SQL, so that they outlive the process."""
