"""``dot-proto proxy``: the process, its signals, its configuration and what it says of mistakes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from cli.conftest import Run
from dot_io.cli.proxy_line import parse_proxy
from dot_io.proxy import _proxy
from dot_io.proxy.settings import COMMENTS, load
from dot_io.testing import Authority, LoopbackServer
from dot_proto import UpstreamError

PATIENCE = 20.0
"Seconds after which a test has failed."


@pytest.fixture(name="server")
def server_fixture(tmp_path: Path) -> Iterator[LoopbackServer]:
    with LoopbackServer(Authority(tmp_path, "command").issue("dot.test")) as server:
        server.answers["a.example", "A"] = ["192.0.2.1"]
        yield server


def file_for(server: LoopbackServer, folder: Path, more: str = "") -> Path:
    """A configuration file, with the trust anchors beside it."""
    file = folder / "proxy.toml"
    file.write_text(
        f'listen = ["127.0.0.1:0"]\n{more}\n[[upstream]]\naddress = "{server.host}"\nport = {server.port}\n'
        f'name = "dot.test"\nca_file = "{server.ca_file.name}"\n'
    )
    if folder != server.ca_file.parent:
        (folder / server.ca_file.name).write_bytes(server.ca_file.read_bytes())
    return file


class Running:
    """The command as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.place = self.next_place()

    def next_place(self) -> tuple[str, int]:
        """Where it listens, as the next ``ready`` says."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.fullmatch(r"ready: (127\.0\.0\.1):([0-9]+)\n", line):
                return found[1], int(found[2])
        raise AssertionError("it has ended")

    def next_line(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def ask(self, name: str = "a.example", *, over: Callable[..., dns.message.Message] = dns.query.udp) -> str:
        host, port = self.place
        response = over(dns.message.make_query(name, "A"), host, PATIENCE, port)
        return response.answer[0][0].to_text() if response.answer else dns.rcode.to_text(response.rcode())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(*words: str | Path, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "dot_io.cli", "proxy", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield Running(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends(server: LoopbackServer, number: signal.Signals) -> None:
    """The line of the issue: UDP and TCP, ``ready``, and 0 at the end."""
    url = f"tls://{server.host}:{server.port}#dot.test"
    with running("--listen", "127.0.0.1:0", "--upstream", url, "--ca-file", server.ca_file) as proxy:
        assert proxy.ask() == "192.0.2.1"
        assert proxy.ask(over=dns.query.tcp) == "192.0.2.1"
        assert proxy.end(number) == 0


def test_a_reload_under_load_loses_no_query(server: LoopbackServer, tmp_path: Path) -> None:
    """P25: SIGHUP, ten times; a file that has become wrong is told, and the old configuration is kept."""
    file = file_for(server, tmp_path)
    with running("--config", file) as proxy:
        answers: list[str] = []
        stop = threading.Event()

        def load_it() -> None:
            while not stop.is_set():
                answers.append(proxy.ask())

        threads = [threading.Thread(target=load_it) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10):
                file_for(server, tmp_path, f"max_udp_size = {600 + number}")
                proxy.process.send_signal(signal.SIGHUP)
                assert proxy.next_place() == proxy.place
            file_for(server, tmp_path, "max_udp_sise = 600")
            proxy.process.send_signal(signal.SIGHUP)
            told = proxy.next_line()
            assert told == f"dot-proto: {file}: unknown key 'max_udp_sise'; did you mean max_udp_size?\n"
            assert proxy.next_line() == "dot-proto: the configuration of before is kept\n"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert len(answers) > 10
        assert set(answers) == {"192.0.2.1"}
        assert proxy.end() == 0


def test_a_signal_empties_the_cache(server: LoopbackServer, tmp_path: Path) -> None:
    """P24: SIGUSR1."""
    with running("--config", file_for(server, tmp_path, "cache_size = 10")) as proxy:
        assert [proxy.ask(), proxy.ask(), len(server.queries)] == ["192.0.2.1", "192.0.2.1", 1]
        proxy.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while len(server.queries) < 2 and time.monotonic() < deadline:
            assert proxy.ask() == "192.0.2.1"
        assert proxy.end() == 0


def test_systemd_is_told(server: LoopbackServer, tmp_path: Path) -> None:
    """P27: ready when it listens, reloading and ready again, stopping."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        with running("--config", file_for(server, tmp_path), NOTIFY_SOCKET=str(tmp_path / "notify")) as proxy:
            assert systemd.recv(99) == b"READY=1"
            before = time.monotonic_ns() // 1000
            proxy.process.send_signal(signal.SIGHUP)
            reloading, stamp = systemd.recv(99).splitlines()
            assert reloading == b"RELOADING=1"
            assert before <= int(stamp.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
            assert systemd.recv(99) == b"READY=1"
            assert proxy.end() == 0
            assert systemd.recv(99) == b"STOPPING=1"


def test_it_starts_without_any_upstream(server: LoopbackServer, tmp_path: Path) -> None:
    """P18: it listens at once; P16: and says which upstream is down, once, without a name that was asked for."""
    server.handshake_fault = "refuse"
    with running("--config", file_for(server, tmp_path, "wait_for_upstream = 0.5")) as proxy:
        assert proxy.ask() == "SERVFAIL"
        told = proxy.next_line()
        assert re.match(r"dot-proto: upstream tls://127.0.0.1:\d+#dot.test is down \(tls\): ", told)
        server.handshake_fault = None
        deadline = time.monotonic() + PATIENCE
        while (found := proxy.ask()) == "SERVFAIL" and time.monotonic() < deadline:
            pass  # it is not tried again at once
        assert found == "192.0.2.1"
        assert proxy.end() == 0
        assert proxy.process.stderr is not None
        assert "example" not in told + proxy.process.stderr.read()


# ---------------------------------------------------------------- configuration


def test_every_mistake_is_told_at_once(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P25: with the file and the key; exit 1, and nothing is listened on."""
    file = tmp_path / "proxy.toml"
    file.write_text('lissten = []\nany = "hinf"\n[[upstream]]\noperator = "qad9"\n')
    with pytest.raises(UpstreamError) as raised:
        load(file)
    assert raised.value.problems == (
        f"{file}: unknown key 'lissten'; did you mean listen?",
        f"{file}: any: unknown value 'hinf'; did you mean hinfo?",
        f"{file}: upstream[0].operator: unknown operator 'qad9'; did you mean quad9?",
    )
    code, out, err = run(f"proxy --config {file} --check")
    assert (code, out) == (1, "")
    assert err == "".join(f"dot-proto: {problem}\n" for problem in raised.value.problems)


@pytest.mark.parametrize("key", [*COMMENTS, "upstream"])
def test_each_key_misspelt(key: str, tmp_path: Path) -> None:
    """P25: the key that was meant is named."""
    misspelt = key[:-2] + key[-1] if len(key) > 4 else key + "y"
    file = tmp_path / "proxy.toml"
    file.write_text(f"{misspelt} = 1\n")
    with pytest.raises(UpstreamError) as raised:
        load(file)
    assert f"{file}: unknown key {misspelt!r}; did you mean {key}?" in raised.value.problems


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('listen = "127.0.0.1:53"', 'listen: a list is wanted, as ["127.0.0.1:53", "[::1]:53"], not \'127.0.0.1:53\''),
        ('listen = ["127.0.0.1"]', "listen: '127.0.0.1' is no address with a port, as 127.0.0.1:53 or [::1]:53"),
        ('listen = ["127.0.0.1:99999"]', "listen: port is 99999; it must be from 0 to 65535"),
        ('listen = ["localhost:53"]', "listen: 'localhost' is no IP address"),
        ("listen = []", "listen: the list is empty, so that nobody could ask"),
        ('listen = ["0.0.0.0:53"]', "listen: 0.0.0.0 can be reached by other machines, and none is allowed"),
        ('allow = ["10.0.0.1/8"]', "allow: '10.0.0.1/8' is no network"),
        ("max_udp_size = 4", "max_udp_size: is 4; it must be from 512 to 65535"),
        ('trust_ad = "no"', "trust_ad: must be True or False, not 'no'"),
        ("wait_for_upstream = -1", "wait_for_upstream: is -1.0; it must be at least 0.0"),
        ('strategy = "fast"', "strategy: unknown value 'fast'; did you mean fastest?"),
        ("special_names = 1", "special_names: unknown value 1; choose from forward, local"),
    ],
)
def test_each_kind_of_value(run: Run, tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(f'{line}\n[[upstream]]\noperator = "quad9"\n')
    code, _, err = run(f"proxy --config {file} --check")
    assert code == 1
    assert err.startswith(f"dot-proto: {file}: {told}")
    assert err.count("\n") == 1


def test_an_upstream_that_is_the_proxy_itself(run: Run) -> None:
    """P14."""
    code, _, err = run("proxy --listen 127.0.0.1:8853 --upstream tls://127.0.0.1:8853 --check")
    assert (code, "is this proxy itself" in err) == (1, True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("proxy", "nobody to ask: give --upstream, as --upstream quad9, or --config FILE"),
        ("proxy --upstream quat9", "upstream[0].operator: unknown operator 'quat9'; did you mean quad9?"),
        ("proxy --upstrem quad9", "--upstrem is no option; did you mean --upstream?"),
        ("proxy quad9", "'quad9' is nothing that can be done here; an upstream is given by --upstream"),
        ("proxy --ca-file x.pem --config x", "--ca-file is for the URLs of --upstream, and there is none"),
        ("proxy --upstream", "--upstream: expected one argument"),
        ("proxy --upstream tls://192.0.2.1:53", "upstream[0].url: "),
        ("proxy --config /nowhere/proxy.toml", "the configuration cannot be read: [Errno 2] No such file"),
        ("proxy --upstream tls://192.0.2.1 --ca-file /nowhere", "upstream[0].ca_file: '/nowhere' cannot be read"),
    ],
)
def test_a_wrong_command_line(run: Run, line: str, told: str) -> None:
    code, out, err = run(f"{line} --check")
    assert (code, out) == (1, "")
    assert err.startswith(f"dot-proto: {told}")
    assert err.count("\n") == 1


def test_what_is_no_toml(run: Run, tmp_path: Path) -> None:
    """The line is named."""
    file = tmp_path / "proxy.toml"
    file.write_text("listen = [\nany = 1")
    code, _, err = run(f"proxy --config {file}")
    assert code == 1
    assert re.match(rf"dot-proto: {file}: no TOML: .*line 2", err)


def test_the_configuration_that_is_printed_says_the_same(run: Run, server: LoopbackServer, tmp_path: Path) -> None:
    """P25: every key with its unit; read back it is equal."""
    file = file_for(server, tmp_path, 'allow = ["192.0.2.0/24"]\nstrategy = "random"\nany = "refuse"')
    code, out, err = run(f"proxy --config {file} --print-config")
    assert (code, err) == (0, "")
    assert set(re.findall(r"^(\w+) = .*  # \w", out, re.MULTILINE)) == set(COMMENTS)
    before = load(file)
    file.write_text(out)
    assert load(file) == before
    code, out, err = run(f"proxy --config {file} --listen [::1]:5353 --upstream cloudflare --print-config")
    assert (code, 'listen = ["[::1]:5353"]' in out, 'operator = "cloudflare"' in out) == (0, True, True)


def test_check_says_that_all_is_good(run: Run) -> None:
    assert run("proxy --upstream quad9 --check") == (0, "the configuration is good\n", "")


@pytest.mark.parametrize(("error", "lines"), [(PermissionError(13, "Permission denied"), 2), (OSError(98, "taken"), 1)])
def test_a_port_that_cannot_be_had(run: Run, monkeypatch: pytest.MonkeyPatch, error: OSError, lines: int) -> None:
    """Without privileges it says what to do about port 53."""

    def refuse(host: str, port: int) -> None:
        raise error

    monkeypatch.setattr(_proxy, "open_udp", refuse)
    code, _, err = run("proxy --upstream quad9")
    assert code == 1
    assert err.startswith("dot-proto: cannot listen on 127.0.0.1 port 53: ")
    assert err.count("\n") == lines
    assert ("give another one, as --listen 127.0.0.1:5353" in err) == (lines == 2)


def test_the_watchdog_is_told(server: LoopbackServer, tmp_path: Path) -> None:
    """P27: at half of the period, from the loop itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        settings = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with running("--config", file_for(server, tmp_path), **settings) as proxy:
            assert systemd.recv(99) == b"READY=1"
            before = time.monotonic()
            assert [systemd.recv(99) for _ in range(4)] == [b"WATCHDOG=1"] * 4
            assert time.monotonic() - before >= 0.25
            assert proxy.end() == 0


def test_sockets_of_systemd(server: LoopbackServer, tmp_path: Path) -> None:
    """P27: LISTEN_FDS, by type; they stand in the place of ``listen``, at a reload too."""
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = socket.create_server(udp.getsockname())
    program = (
        "import fcntl, os, sys\n"
        f"numbers = [fcntl.fcntl(number, fcntl.F_DUPFD, 50) for number in ({udp.fileno()}, {tcp.fileno()})]\n"
        "for at, number in enumerate(numbers): os.dup2(number, 3 + at)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'dot_io.cli', 'proxy', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", program, "--config", str(file_for(server, tmp_path))]
    descriptors = [udp.fileno(), tcp.fileno()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=descriptors)
    try:
        with udp, tcp:
            place = udp.getsockname()
        proxy = Running(process)
        assert proxy.place == place
        assert proxy.ask() == "192.0.2.1"
        assert proxy.ask(over=dns.query.tcp) == "192.0.2.1"
        process.send_signal(signal.SIGHUP)
        assert proxy.next_place() == place
        assert proxy.ask(over=dns.query.tcp) == "192.0.2.1"
        assert proxy.end() == 0
    finally:
        process.kill()
        process.communicate()


UNIT = Path(__file__).parents[2] / "examples" / "systemd" / "dot-proto-proxy.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine")
def test_the_unit(tmp_path: Path) -> None:
    """P28: systemd understands all of it, and takes it for exposed by less than 2.0 of 10."""
    unit = tmp_path / UNIT.name
    listening = UNIT.with_suffix(".socket")
    (tmp_path / listening.name).write_text(listening.read_text())
    unit.write_text(UNIT.read_text().replace("/usr/bin/dot-proto ", f"{sys.executable} -m dot_io.cli "))
    for words in (["verify"], ["security", "--offline=1", "--threshold=20", "--no-pager"]):
        ended = subprocess.run(["systemd-analyze", *words, str(unit)], capture_output=True, text=True, timeout=PATIENCE)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_the_unit_starts_what_there_is() -> None:
    """Its command line is read by the command."""
    [line] = re.findall(r"^ExecStart=/usr/bin/dot-proto proxy (.*)$", UNIT.read_text(), re.MULTILINE)
    assert parse_proxy(line.split()).file == "/etc/dot-proto/proxy.toml"
