"""Other people's servers, each with the same data: Unbound, NSD, and dnsdist in front of NSD.

Each is started in the foreground, as whoever runs the tests, with a configuration and a directory of its own; none
needs a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.credentials import Credentials
from support.messages import record
from support.programs import free_port, require, running

HOSTS = 100_000
"NSD knows so many names, ``h0.lab.test`` and on, each with an address of its own."

FEW_HOSTS = 500
"Unbound knows so many: reading them takes it far longer."

TTL = 300
"Seconds."

STRINGS = [f"{number:02}" + "x" * 238 for number in range(17)]
"Character strings of the one TXT record of ``large.lab.test``; 4 KB in all."

UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    tls-port: {port}
    tls-service-key: "{file}"
    tls-service-pem: "{file}"
    edns-tcp-keepalive: yes
    edns-tcp-keepalive-timeout: 7000
    directory: "{home}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
    local-zone: "lab.test." static
{data}
remote-control:
    control-enable: no
"""

NSD = """
server:
    ip-address: 127.0.0.1@{port}
    ip-address: 127.0.0.1@{plain}
    tls-port: {port}
    tls-service-key: "{file}"
    tls-service-pem: "{file}"
    username: ""
    chroot: ""
    database: ""
    pidfile: ""
    xfrdfile: ""
    zonelistfile: "{home}/zone.list"
    xfrdir: "{home}"
    zonesdir: "{home}"
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: "lab.test"
    zonefile: "lab.test.zone"
"""

ZONE = """
$ORIGIN lab.test.
$TTL {ttl}
@ SOA ns hostmaster 1 3600 600 86400 {ttl}
@ NS ns
ns A 127.0.0.1
"""

DNSDIST = """
setLocal("127.0.0.1:{plain}")
addTLSLocal("127.0.0.1:{port}", "{file}", "{file}")
newServer({{address="127.0.0.1:{backend}", tcpOnly=true, healthCheckMode="up"}})
setSecurityPollSuffix("")
"""


def address(host: int) -> str:
    """The one address of the host with this number, of up to 24 bits."""
    return f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}"


def answers(host: int, response: bytes) -> bool:
    """Whether a response has that address."""
    return record(data=bytes(map(int, address(host).split("."))), ttl=TTL) in response


@contextmanager
def unbound(home: Path, credentials: Credentials) -> Iterator[int]:
    """Unbound while it runs: its port for DNS over TLS."""
    program, port = require("unbound", "unbound"), free_port()
    data = "".join(f"    local-data: '{line}'\n" for line in _records(FEW_HOSTS, "{}.lab.test."))
    configuration = _write(
        home / "unbound.conf", UNBOUND.format(port=port, file=credentials.file, home=home, data=data)
    )
    with running([program, "-d", "-c", configuration], port, home / "log"):
        yield port


@contextmanager
def nsd(home: Path, credentials: Credentials) -> Iterator[tuple[int, int]]:
    """NSD while it runs: its port for DNS over TLS, and the one for bare DNS."""
    program, port, plain = require("nsd", "nsd"), free_port(), free_port()
    _write(home / "lab.test.zone", ZONE.format(ttl=TTL) + "\n".join(_records(HOSTS, "{}")) + "\n")
    configuration = _write(home / "nsd.conf", NSD.format(port=port, plain=plain, file=credentials.file, home=home))
    with running([program, "-d", "-c", configuration], port, home / "log"):
        yield port, plain


@contextmanager
def dnsdist(home: Path, credentials: Credentials, backend: int) -> Iterator[int]:
    """Dnsdist while it runs, in front of a server on port ``backend``: its port for DNS over TLS."""
    program, port, plain = require("dnsdist", "dnsdist"), free_port(), free_port()
    configuration = _write(
        home / "dnsdist.conf", DNSDIST.format(port=port, plain=plain, file=credentials.file, backend=backend)
    )
    with running([program, "--supervised", "--disable-syslog", "-C", configuration], port, home / "log"):
        yield port


def _records(hosts: int, owner: str) -> Iterator[str]:
    """Lines in presentation format."""
    strings = " ".join(f'"{string}"' for string in STRINGS)
    yield f"{owner.format('large')} {TTL} IN TXT {strings}"
    for host in range(hosts):
        yield f"{owner.format(f'h{host}')} {TTL} IN A {address(host)}"


def _write(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file
