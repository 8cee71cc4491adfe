"""The TLS library as this site has configured it (openssl.cnf): what it allows, and what it cannot do.

Theory of operation.  A site says in openssl.cnf what all its programs may use: crypto policies of Fedora and RHEL,
``MinProtocol`` and ``CipherString`` on Debian.  OpenSSL puts that into each new context.  A Python of a distribution
leaves it there, so a fresh context shows it.  A Python that was built from its sources overwrites two of the settings,
the least version and the suites of TLS 1.2, before anybody can look; these two are then read from the file itself.
OpenSSL reads the file once in a process, and so do we.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
from typing import Final

from ..errors import TLSLibraryError
from .failures import describe

ENVIRONMENT: Final = "OPENSSL_CONF"
"The environment variable that names OpenSSL's configuration file."

SECURITY_LEVEL: Final = 2
"OpenSSL's: 112 bits, so RSA from 2048 bits on, and no SHA-1 (RFC 9325, section 4.5); a site may ask for more."

MAX_INCLUDES: Final = 8
"Files that include each other, one inside the other."

MAX_FILE: Final = 1_000_000
"Octets of a configuration file that are looked at."

_VERSIONS: Final = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
"By OpenSSL's names, in lower case; those of DTLS say nothing about TLS."

Sections = dict[str, dict[str, str]]
"A configuration file: values by name, by section."


def new_context(protocol: int) -> ssl.SSLContext:
    """A context as OpenSSL and the site have it; raises :class:`~dot_io.errors.TLSLibraryError`."""
    try:
        return ssl.SSLContext(protocol)
    except ssl.SSLError as error:
        raise library_error(describe(error)) from error


def library_error(why: str) -> TLSLibraryError:
    """The TLS library cannot be used, whatever the caller asks for."""
    return TLSLibraryError(f"{ssl.OPENSSL_VERSION} cannot be used: {why}; look at its configuration, {_whence()}")


def configuration_file() -> str:
    """The file that OpenSSL reads, whether there is one or not."""
    if ENVIRONMENT in os.environ:
        return os.environ[ENVIRONMENT]
    # OpenSSL has the two in one directory, of which ssl tells the other one.
    return os.path.join(os.path.dirname(ssl.get_default_verify_paths().openssl_cafile), "openssl.cnf")


def _whence() -> str:
    file = configuration_file()
    return f"{ENVIRONMENT}={file}" if ENVIRONMENT in os.environ else f"{file} ({ENVIRONMENT} is not set)"


def check_trust_store() -> None:
    """Raise :class:`~dot_io.errors.TLSLibraryError` where the environment names a file of anchors that is not there.

    OpenSSL says nothing of that, and trusts nobody: every server would be refused, for a reason that is not its own.
    """
    variable = ssl.get_default_verify_paths().openssl_cafile_env
    file = os.environ.get(variable)
    if file is not None and (os.path.isdir(file) or not os.access(file, os.R_OK)):
        raise TLSLibraryError(
            f"{variable}={file} names no file that can be read, so no server could be trusted: correct it, unset it to "
            "have the system's trust anchors, or give trust_anchors"
        )


def site_versions(fresh: ssl.SSLContext) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """The least and the greatest version that the site allows; ``fresh`` is a context that nobody has changed."""
    minimum = fresh.minimum_version
    of_file = _VERSIONS.get(_overwritten(fresh).get("minprotocol", "").lower(), minimum)
    return max(minimum, of_file), fresh.maximum_version


def limit_suites(fresh: ssl.SSLContext, ciphers: str) -> bool:
    """Allow what both the site and ``ciphers`` allow, at the higher of both security levels.

    Returns whether any suite of TLS 1.2 is left; if not, ``fresh`` has some all the same, and must not use TLS 1.2.
    The suites of TLS 1.3 are the site's.
    """
    names, level = _suites(fresh), max(fresh.security_level, SECURITY_LEVEL)
    if site := _overwritten(fresh).get("cipherstring"):
        try:
            fresh.set_ciphers(site)
        except ssl.SSLError:  # it names no suite that there is
            names = []
        else:
            level = max(level, fresh.security_level)
            of_site = set(_suites(fresh))
            names = [name for name in names if name in of_site]
    try:
        fresh.set_ciphers(f"{ciphers}:@SECLEVEL={level}")
    except ssl.SSLError as error:
        raise library_error(describe(error)) from error
    both = [name for name in _suites(fresh) if name in names]
    if both:
        fresh.set_ciphers(f"{':'.join(both)}:@SECLEVEL={level}")
    return bool(both)


def _overwritten(fresh: ssl.SSLContext) -> dict[str, str]:
    """What must be read from the file; nothing where ``fresh`` shows that Python has left OpenSSL's settings alone."""
    return _settings() if fresh.minimum_version == ssl.TLSVersion.TLSv1_2 else {}


def _suites(context: ssl.SSLContext) -> list[str]:
    """Names of the suites up to TLS 1.2."""
    return [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]


# The file. Its form is that of config(5), what it says of TLS is in SSL_CONF_cmd(3).


@functools.cache
def _settings() -> dict[str, str]:
    """What the site says of TLS for all programs: values by command, in lower case."""
    sections: Sections = {"default": {}}
    _read(configuration_file(), "default", sections, MAX_INCLUDES)
    default = sections["default"]
    modules = sections.get(default.get("openssl_conf", ""), {})
    of_tls = sections.get(modules.get("ssl_conf", ""), {})
    commands = sections.get(of_tls.get("system_default", ""), {})
    found: dict[str, str] = {}
    for name, value in commands.items():
        prefix, _, command = name.lower().rpartition(".")
        if prefix != "dtls":
            found[command] = value
    return found


def _read(file: str, section: str, sections: Sections, includes: int) -> str:
    """Add what a file says, from ``section`` on; returns the section in which it ends.

    OpenSSL itself goes on without a file that is not there, or that it cannot read.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read(MAX_FILE)
    except (OSError, ValueError):  # the second for a name with NUL
        return section
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        line = (_COMMENT.sub(r"\1", line) if "#" in line else line).strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            sections.setdefault(section, {})
        elif include := re.fullmatch(r"\.include\s*=?\s*(.+)", line):
            if includes:
                for one in _included(_value(include[1], section, sections)):
                    section = _read(one, section, sections, includes - 1)
        elif not line.startswith(".") and "=" in line:
            name, _, value = line.partition("=")
            place, _, name = name.strip().rpartition("::")
            sections.setdefault(place or section, {})[name] = _value(value.strip(), section, sections)
    return section


_COMMENT: Final = re.compile(r"""\A((?:[^#'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*)#.*""")
"Everything before a comment, which begins outside of quotes, and the comment."

_REFERENCE: Final = re.compile(r"\$(?:\{(\S+?)\}|\((\S+?)\)|((?:\w+::)?\w+))")
"A value that stands for another: $name, ${name}, $(name), $section::name."


_SPECIAL: Final = frozenset("$\"'\\")


def _included(path: str) -> list[str]:
    path = os.path.join(os.environ.get("OPENSSL_CONF_INCLUDE", ""), path)
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    return [os.path.join(path, name) for name in names if name.endswith((".cnf", ".conf"))]


def _value(text: str, section: str, sections: Sections) -> str:
    if not _SPECIAL.intersection(text):
        return text

    def look_up(reference: re.Match[str]) -> str:
        place, _, name = (reference[1] or reference[2] or reference[3]).rpartition("::")
        if place == "ENV":
            return os.environ.get(name, "")
        return sections.get(place or section, {}).get(name, sections["default"].get(name, ""))

    return re.sub(r"""["']|\\(.)""", r"\1", _REFERENCE.sub(look_up, text))
