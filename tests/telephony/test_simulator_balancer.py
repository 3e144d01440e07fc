"""Connections are spread over front-ends, and what is signed stays the public URL."""

from telephony.simulator.balancer import Balancer

FRONT_ENDS = ("http://127.0.0.1:8081", "http://127.0.0.1:8082/")


def test_without_front_ends_the_url_is_the_way() -> None:
    assert Balancer().ways("https://maya.example.com/twilio/voice") == [
        "https://maya.example.com/twilio/voice"
    ]


def test_each_connection_goes_to_the_next_one_and_knows_the_others() -> None:
    balancer = Balancer(FRONT_ENDS)
    url = "ws://maya.example.com/twilio/media"
    first, second = "ws://127.0.0.1:8081/twilio/media", "ws://127.0.0.1:8082/twilio/media"
    assert [balancer.ways(url) for _ in range(3)] == [[first, second], [second, first], [first, second]]
