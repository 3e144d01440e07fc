"""How many calls are taken at once, and that none of them keeps its place for ever."""
