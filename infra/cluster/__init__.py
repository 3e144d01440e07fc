"""The models on other machines: Ray Serve places and heals them, calls reach them over sockets of their
own."""
