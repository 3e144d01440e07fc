"""The operator's page /console: calls that are on, calls that were, and how the house is doing."""
