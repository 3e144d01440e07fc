"""What never leaves this machine."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """A name or a literal address; other names are not looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
