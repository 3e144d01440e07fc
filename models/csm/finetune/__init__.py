"""Training CSM's decoder on one speaker: the backbone stays as it is.

Expresso's readers, features computed once, the loop, and the files that come out of it.
"""
