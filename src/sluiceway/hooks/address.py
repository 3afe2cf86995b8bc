"""Which addresses may be called: public ones, and those that the operator allows.

Whoever may set a webhook chooses where this machine sends a request, so addresses inside the operator's own network are
refused, unless `SLUICEWAY_WEBHOOK_ALLOW` lists them. That is decided twice: when an address is set, with a sentence for
whoever sets it, and again whenever a connection is made, on the address that the name really led to.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import msgspec
from yarl import URL

from sluiceway.errors import BadInput, BadSetting

Address = IPv4Address | IPv6Address

_LONGEST: Final = 2000
_SCHEMES: Final = ("http", "https")
_NAT64: Final = ip_network("64:ff9b::/96")
_HINT: Final = "; if it is meant, whoever operates this installation lists it in SLUICEWAY_WEBHOOK_ALLOW"


class Allowed(msgspec.Struct, frozen=True):
    """What may be called besides public addresses: networks, and hosts, each with a port or (`None`) with any."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[tuple[str, int | None]] = frozenset()

    def host(self, url: URL) -> bool:
        """Tell whether a host is allowed by its name, wherever that leads."""
        host = (url.host or "").lower()
        return bool({(host, None), (host, url.port)} & self.hosts)

    def address(self, address: Address) -> bool:
        """Tell whether an address may be connected to."""
        return is_public(address) or any(address in network for network in self.networks)


def allowed_by(setting: str) -> Allowed:
    """Read `SLUICEWAY_WEBHOOK_ALLOW`: hosts (`intranet.example`), `host:port`, addresses and networks (`10.0.0.0/8`).

    Raises `BadSetting` for an entry that is none of these.
    """
    networks, hosts = [], set()
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        try:
            networks.append(ip_network(entry, strict=False))
        except ValueError:
            hosts.add(_host_in(entry))
    return Allowed(tuple(networks), frozenset(hosts))


def _host_in(entry: str) -> tuple[str, int | None]:
    try:
        url = URL(f"http://{entry}")
        host, port = url.host, url.explicit_port
    except ValueError:
        host, port = None, None
    if not host or "/" in entry or "@" in entry:
        raise BadSetting(f"SLUICEWAY_WEBHOOK_ALLOW: {entry!r} is no host, host:port, address or network (10.0.0.0/8)")
    return host.lower(), port


def checked_url(text: str, allowed: Allowed) -> URL:
    """Return an address that may be called. Raises `BadInput` with a sentence for one that may not.

    Looks the host's name up, so this belongs on a thread; a name that leads nowhere yet is let through, because it is
    looked at again when it is called.
    """
    url = _well_formed(text)
    if allowed.host(url):
        return url
    for found in _looked_up(url):
        if not allowed.address(found):
            raise BadInput(f"{url.host} is in a private network ({found}), which may not be called{_HINT}")
    return url


def _well_formed(text: str) -> URL:
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise BadInput(f"{text!r} is no address such as https://example.com/hook") from None
    if len(text) > _LONGEST or url.scheme not in _SCHEMES or not port or not _is_a_host(url.host or ""):
        raise BadInput(f"{text[:100]!r} is no address such as https://example.com/hook")
    if url.user is not None or url.password is not None:
        raise BadInput("an address with a name or password in it is not called; tell the receiver by the signature")
    return url.with_fragment(None)


def _is_a_host(host: str) -> bool:
    return bool(host) and host.isprintable() and not any(letter.isspace() for letter in host)


def _looked_up(url: URL) -> Iterable[Address]:
    if (literal := _literal(url.host or "")) is not None:
        return [literal]
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [address_in(entry) for entry in found]


def _literal(host: str) -> Address | None:
    """Return the address that a host is, rather than names: also one written as `127.1`, `0x7f.1` or `2130706433`."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def address_in(info: Any) -> Address:
    """Return the address of an entry of `getaddrinfo`."""
    return ip_address(str(info[4][0]).partition("%")[0])


def is_public(address: Address) -> bool:
    """Tell whether an address is on the internet, and not private, local, a group's, or one of these in disguise."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if int(address) < 1 << 32 or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
