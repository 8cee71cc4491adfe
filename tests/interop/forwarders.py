"""Other people's programs that ask our server on behalf of their own clients, over DNS over TLS or in front of it.

Stubby, Unbound, Knot Resolver and dnsdist take bare DNS and ask over TLS; HAProxy hands octets on.  Each is started in
the foreground, as whoever runs the tests, with a configuration and a directory of its own; none needs a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from support.credentials import NAME, Credentials
from support.programs import free_port, require, running


@dataclass(frozen=True)
class Forwarder:
    """A program, and how it is told to ask our server."""

    package: str
    "Debian's."
    command: Sequence[str]
    configuration: str = ""
    "Where it always has the same."


STUBBY = """
resolution_type: GETDNS_RESOLUTION_STUB
dns_transport_list: [GETDNS_TRANSPORT_TLS]
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
tls_query_padding_blocksize: 128
idle_timeout: 10000
listen_addresses: [127.0.0.1@$port]
tls_ca_file: "$root"
upstream_recursive_servers:
  - address_data: 127.0.0.1
    tls_port: $upstream
    tls_auth_name: "$name"
"""

UNBOUND = """
server:
    interface: 127.0.0.1@$port
    do-not-query-localhost: no
    tls-cert-bundle: "$root"
    directory: "$home"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
    module-config: "iterator"
forward-zone:
    name: "."
    forward-tls-upstream: yes
    forward-addr: 127.0.0.1@$upstream#$name
remote-control:
    control-enable: no
"""

KRESD = """
cache.size = 10 * MB
net.listen('127.0.0.1', $port)
for _, name in ipairs({'ta_update', 'ta_signal_query', 'ta_sentinel', 'priming', 'detect_time_skew',
                       'detect_time_jump'}) do modules.unload(name) end
trust_anchors.remove('.')
policy.add(policy.all(policy.TLS_FORWARD({{'127.0.0.1@$upstream', hostname='$name', ca_file='$root'}})))
"""

DNSDIST_HEAD = """
setLocal("127.0.0.1:$port")
setMaxTCPClientThreads(1)
setSecurityPollSuffix("")
"""

DNSDIST = f"""{DNSDIST_HEAD}
newServer({{address="127.0.0.1:$upstream", tls="openssl", subjectName="$name", caStore="$root",
           validateCertificates=true, maxInFlight=100, healthCheckMode="up"}})
"""

FORWARDERS = {
    "stubby": Forwarder("stubby", ["-C", "$file"], STUBBY),
    "unbound": Forwarder("unbound", ["-d", "-c", "$file"], UNBOUND),
    "kresd": Forwarder("knot-resolver", ["-n", "-c", "$file", "$home"], KRESD),
    "dnsdist": Forwarder("dnsdist", ["--supervised", "--disable-syslog", "-C", "$file"], DNSDIST),
    "haproxy": Forwarder("haproxy", ["-db", "-f", "$file"]),
}


@contextmanager
def forwarder(
    name: str, home: Path, credentials: Credentials, upstream: int, configuration: str | None = None
) -> Iterator[int]:
    """The program while it runs, in front of our server on port ``upstream``: the port on which it is asked."""
    chosen = FORWARDERS[name]
    program, port, file = require(name, chosen.package), free_port(), home / f"{name}.yml"  # stubby goes by the name
    values = {"port": port, "upstream": upstream, "home": home, "file": file}
    text = Template(configuration or chosen.configuration)
    file.write_text(text.substitute(values, root=credentials.root_file, name=NAME), "utf-8")
    command = [program, *(Template(word).substitute(values) for word in chosen.command)]
    with running(command, port, home / f"{name}.log"):
        yield port
