"""``dot-proto proxy``: the proxy as a process, which signals control."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Final

from dot_proto import DoTError, UpstreamError

from ..proxy import Proxy
from ..proxy.settings import ProxySettings, load, written_place
from ._errors import complain, printable
from ._systemd import Notifier, listening_sockets
from .exit_codes import ExitCode
from .proxy_line import ProxyArguments

PRIVILEGED: Final = (
    "a port below 1024 needs a privilege: give another one, as --listen 127.0.0.1:5353, start as root or with "
    "CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start"
)


def run(arguments: ProxyArguments) -> int:
    """Serve until SIGTERM or SIGINT; returns an :class:`ExitCode`."""
    try:
        settings = _settings(arguments)
    except UpstreamError as error:
        complain(*error.problems)
        return ExitCode.USAGE
    except OSError as error:
        complain(f"the configuration cannot be read: {error}")
        return ExitCode.USAGE
    if arguments.only_prints:
        print(settings.to_toml(), end="")
        return ExitCode.ANSWER
    if arguments.only_checks:
        print("the configuration is good")
        return ExitCode.ANSWER
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="dot-proto: %(message)s")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(arguments, settings))


def _settings(arguments: ProxyArguments) -> ProxySettings:
    if arguments.file is not None:
        return load(arguments.file, arguments.settings)
    settings = arguments.settings
    if arguments.stubby_file is not None:
        settings = _from_stubby(arguments.stubby_file) | settings
    return ProxySettings.parse(settings, read_file=lambda name: Path(name).read_bytes())


def _from_stubby(file: str) -> dict[str, Any]:
    import yaml

    from ..proxy.stubby import settings_from_stubby

    try:
        settings, warnings = settings_from_stubby(yaml.safe_load(Path(file).read_bytes()))
    except yaml.YAMLError as error:  # it names the line
        raise UpstreamError(f"{file}: no YAML: {' '.join(str(error).split())}") from error
    except UpstreamError as error:
        raise UpstreamError(*(f"{file}: {problem}" for problem in error.problems)) from error
    complain(*(f"{file}: {warning}" for warning in warnings))
    return settings


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed: it does the same work in less time."""
    with contextlib.suppress(ModuleNotFoundError):
        import uvloop

        return uvloop.Loop
    return None


async def _serve(arguments: ProxyArguments, settings: ProxySettings) -> ExitCode:
    loop, notifier = asyncio.get_running_loop(), Notifier()
    has_changed, is_ending = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, has_changed.set)
    for number in _ENDING:
        loop.add_signal_handler(number, is_ending.set)
    try:
        async with Proxy(settings.upstreams, settings.configuration, sockets=listening_sockets()) as proxy:
            loop.add_signal_handler(signal.SIGUSR1, proxy.clear_cache)
            _tell_ready(proxy)
            notifier.ready()
            tasks = [loop.create_task(_reload_when_told(arguments, proxy, notifier, has_changed))]
            if notifier.watchdog_period is not None:
                tasks.append(loop.create_task(_stay_alive(notifier, notifier.watchdog_period)))
            await is_ending.wait()
            notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    except PermissionError as error:
        complain(str(error.strerror), PRIVILEGED)
        return ExitCode.USAGE
    except OSError as error:
        complain(str(error.strerror))
        return ExitCode.USAGE
    finally:
        for number in (*_ENDING, signal.SIGHUP, signal.SIGUSR1):
            loop.remove_signal_handler(number)  # uvloop does not when it is closed
    return ExitCode.ANSWER


_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"What asks the process to end."


async def _reload_when_told(
    arguments: ProxyArguments, proxy: Proxy, notifier: Notifier, has_changed: asyncio.Event
) -> None:
    """At each SIGHUP: read the configuration anew, and keep the old one where something is wrong with it."""
    while True:
        await has_changed.wait()
        has_changed.clear()
        notifier.reloading()
        try:
            settings = await asyncio.to_thread(_settings, arguments)
            await proxy.reload(settings.upstreams, settings.configuration)
        except (DoTError, OSError) as error:
            problems = error.problems if isinstance(error, UpstreamError) else (str(error),)
            complain(*problems, "the configuration of before is kept")
        else:
            _tell_ready(proxy)
        notifier.ready()


async def _stay_alive(notifier: Notifier, period: float) -> None:
    """Tell the watchdog, from the loop that answers: where that hangs, nobody tells."""
    while True:
        notifier.alive()
        await asyncio.sleep(period)


def _tell_ready(proxy: Proxy) -> None:
    places = ", ".join(written_place(*place) for place in proxy.addresses)
    print(printable(f"ready: {places}"), file=sys.stderr, flush=True)
