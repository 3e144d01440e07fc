"""The browser as a telephone: a page on which one clicks and talks.

Mu-law at 8 kHz goes both ways over one WebSocket, in binary messages of 20 ms. Everything else of this house
hears the telephone band anyway, so that 64 kbit/s and no codec to install are all that is needed. WebRTC
would carry the last hop over UDP; it was left out because it brings ICE, DTLS and a codec into the server for
a hop that, from a page on the same machine or a good network, loses nothing: TCP's price is a stall of some
hundred milliseconds where a packet is lost, of which 200 ms of playout lead hide most.
"""
