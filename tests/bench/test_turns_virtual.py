"""A planned call in virtual time."""

from bench.turns_calls import conversation_calls
from bench.turns_virtual import virtual_figures
from tests.bench import corpora


def test_a_call_of_the_corpus_passes_faster_than_it_lasts_and_the_same_each_time() -> None:
    figures = virtual_figures(conversation_calls(corpora.corpus(12))[0])
    assert figures["virtual_identical"] is True
    assert isinstance(figures["virtual_call_s"], float)
    assert figures["virtual_call_s"] > 10, "a whole call"
    assert isinstance(figures["virtual_speedup"], float)
    assert figures["virtual_speedup"] > 1
