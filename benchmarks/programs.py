"""Other people's servers and clients as processes: found, started, watched, and what they spent."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answering import HOST, NAMES, ZONE
from loopback import HERE, Site, free_port, stop

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
"Debian keeps servers where a user's PATH does not look."

START, LIMIT = 10.0, 60.0
"Seconds that a server may take until it listens, and a client in all: dnsperf goes on for ever against a dead port."

VERSION = {
    "dnsperf": (["-h"], r"Version (\S+)"),
    "kdig": (["-V"], r"version (\S+)"),
    "getdns_query": (["-i"], r'"version_string": <bindata of "([^"]+)'),
    "unbound": (["-V"], r"Version (\S+)"),
    "dnsdist": (["--version"], r"dnsdist (\S+)"),
    "kresd": (["--version"], r"version (\S+)"),
    "named": (["-v"], r"BIND (\S+)"),
}
"How each program tells its version."

FILES = {
    "unbound": """server:
  interface: {host}@{port}
  tls-port: {port}
  tls-service-key: {chain}
  tls-service-pem: {chain}
  num-threads: 1
  incoming-num-tcp: 2000
  username: ""
  chroot: ""
  directory: {home}
  pidfile: ""
  do-daemonize: no
  use-syslog: no
  local-zone: {zone}. redirect
  local-data: "{zone}. 300 A 192.0.2.1"
remote-control:
  control-enable: no
""",
    "dnsdist": """addTLSLocal("{host}:{port}", "{chain}", "{chain}")
setSecurityPollSuffix("")
addAction(AllRule(), SpoofAction({{"192.0.2.1"}}, {{ttl=300}}))
""",
    "kresd": """cache.size = 10 * MB
net.listen('{host}', {port}, {{kind='tls'}})
net.tls('{chain}', '{chain}')
for _, name in ipairs({{'ta_update', 'ta_signal_query', 'ta_sentinel', 'priming', 'detect_time_skew',
                       'detect_time_jump'}}) do modules.unload(name) end
policy.add(policy.suffix(policy.ANSWER({{[kres.type.A] = {{rdata = kres.str2ip('192.0.2.1'), ttl = 300}}}}),
                         policy.todnames({{'{zone}'}})))
""",
    "named": """tls here {{ cert-file "{chain}"; key-file "{chain}"; }};
options {{
  directory "{home}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; tcp-clients 2000;
  listen-on port {port} tls here {{ {host}; }}; listen-on-v6 {{ none; }};
}};
controls {{ }};
zone "{zone}" {{ type primary; file "zone"; }};
""",
}
"Each server's whole configuration: one thread where it lets us choose, one listener, TLS, no network."

COMMANDS = {
    "unbound": ["-d", "-c", "{file}"],
    "dnsdist": ["--supervised", "--disable-syslog", "-C", "{file}"],
    "kresd": ["-n", "-c", "{file}", "{home}"],
    "named": ["-g", "-n", "1", "-c", "{file}"],
}


def find(name: str) -> str | None:
    """The program's path."""
    return shutil.which(name, path=PATH)


def version(name: str) -> str:
    """What the program says of itself."""
    arguments, pattern = VERSION[name]
    said = subprocess.run([find(name) or name, *arguments], capture_output=True, text=True, check=False, timeout=LIMIT)
    found = re.search(pattern, said.stdout + said.stderr)
    return f"{name} {found[1]}" if found else f"{name} (version unknown)"


@dataclass(frozen=True)
class Server:
    """One that listens for DNS over TLS."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds that all threads of it spent, by its process's clock (clock_getcpuclockid(3))."""
        return time.clock_gettime(~self.pid << 3 | 2)


def start(site: Site, stack: ExitStack, name: str) -> Server:
    """Start somebody's server, to be ended with the stack."""
    port = free_port()
    home = site.folder / name
    home.mkdir()
    hosts = "".join(f"{one}. A 192.0.2.1\n" for one in NAMES)
    (home / "zone").write_text(f"$TTL 300\n@ SOA ns @ 1 3600 600 86400 300\n@ NS ns\nns A 127.0.0.1\n{hosts}")
    values = {"host": HOST, "port": port, "chain": site.chain, "home": home, "zone": ZONE, "file": home / "conf"}
    (home / "conf").write_text(FILES[name].format(**values))
    command = [find(name) or name, *(word.format(**values) for word in COMMANDS[name])]
    log = stack.enter_context((home / "log").open("w+"))
    with site.on_core(1):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home)
    stack.callback(stop, process)
    deadline = time.monotonic() + START
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not start:\n{(home / 'log').read_text()}")
            time.sleep(0.02)
        else:
            return Server(name, port, process.pid)


def start_ours(site: Site, stack: ExitStack, kind: str, **options: Any) -> Server:
    """Start one of ours; ``options`` are of ``serve``, beside those of answering.py."""
    command = [sys.executable, str(HERE / "plain.py"), "answering", kind, str(site.chain), json.dumps(options)]
    with site.on_core(1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    stack.callback(stop, process)
    return Server(f"ours {kind}", int(process.stdout.readline()), process.pid)


# Clients, by the slope: what a long run spends more than a short one.


@dataclass(frozen=True)
class Spent:
    """Seconds; of a run, or for each query."""

    cpu: float
    "CPU time of the client, user and system."
    wall: float
    server: float = 0.0
    "CPU time of the server in the same run."


Command = Callable[[Site, Server, int], list[str]]
"The command that asks so many queries."


def dnsperf(site: Site, server: Server, count: int) -> list[str]:
    names = _names(site, count)
    common = ["-m", "dot", "-s", HOST, "-c", "1", "-T", "1", "-q", "100", "-n", "1"]
    return [find("dnsperf") or "dnsperf", *common, "-p", str(server.port), "-d", str(names)]


def kdig(site: Site, server: Server, count: int) -> list[str]:
    options = [f"@{HOST}", "-p", str(server.port), "+tls", "+keepopen", "+noedns"]
    return [find("kdig") or "kdig", *options, *NAMES[:count]]


def getdns_query(site: Site, server: Server, count: int) -> list[str]:
    options = ["-s", "-L", f"@{HOST}#{server.port}", "-q", "-a", "-B", "-F", str(_names(site, count))]
    return [find("getdns_query") or "getdns_query", *options]


CLIENTS: dict[str, tuple[Command, Callable[[str], int | None]]] = {
    "dnsperf": (dnsperf, lambda said: int(found[1]) if (found := re.search(r"completed: *(\d+) ", said)) else 0),
    "kdig": (kdig, lambda said: said.count("->>HEADER<<-")),
    "getdns_query": (getdns_query, lambda said: 0 if "rror" in said else None),
}
"How each asks, and how to read how many were answered; ``None`` where it does not say."


def slope(site: Site, server: Server, client: str, few: int, many: int) -> Spent:
    """What each query costs ``client`` and ``server``, without start, handshake and close."""
    short, long = (_spent(site, server, client, count) for count in (few, many))
    more = many - few
    return Spent(*((b - a) / more for a, b in zip(_fields(short), _fields(long), strict=True)))


def _fields(spent: Spent) -> tuple[float, float, float]:
    return spent.cpu, spent.wall, spent.server


def _spent(site: Site, server: Server, client: str, count: int) -> Spent:
    command, answered = CLIENTS[client]
    words = command(site, server, count)
    before, began = server.cpu(), time.perf_counter()
    with site.on_core(0):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    assert process.stdout is not None
    with process.stdout as stdout:
        said = stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    wall, at_server = time.perf_counter() - began, server.cpu() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or answered(said) not in (count, None):
        sys.exit(f"{client} did not get all its {count} answers from {server.name}:\n{said[-2000:]}")
    found = re.search(r"Run time \(s\): *([\d.]+)", said)  # dnsperf knows better: it sleeps before it ends
    return Spent(usage.ru_utime + usage.ru_stime, float(found[1]) if found else wall, at_server)


def _names(site: Site, count: int) -> Path:
    """A file of as many queries, over all names in turn."""
    file = site.folder / f"names.{count}"
    if not file.exists():
        file.write_text("".join(f"{NAMES[number % len(NAMES)]} A\n" for number in range(count)))
    return file
