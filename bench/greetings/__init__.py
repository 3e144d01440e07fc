"""What is heard when somebody, or a machine, answers a call: greetings made by the project, with the truth
known. All of it is synthetic speech.

    for greeting in greetings("held_out"):
        greeting.line        # (n,) int16 at 8 kHz from the moment of answering, as the server gets it
        greeting.machine     # the truth
"""

from bench.greetings.building import Greeting, greetings

__all__ = ["Greeting", "greetings"]
