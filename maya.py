"""Maya's public Python API (filled by telephony.simulator)."""
