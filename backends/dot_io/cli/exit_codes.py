"""How the command ends: one code for each thing that an operator would do something different about."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the process returns to the shell; stable."""

    ANSWER = 0
    "An answer came, whatever its RCODE: NXDOMAIN is an answer."
    USAGE = 1
    "The command line asks for something that cannot be done, or an optional package is missing."
    BATCH_FILE = 8
    "The file of ``-f`` cannot be read; dig's code."
    NO_REPLY = 9
    "Refused, unreachable, timed out or closed before the answer."
    INTERNAL = 10
    "A defect of this program."
    HANDSHAKE = 20
    "TLS could not be set up: the peer speaks no TLS, no common version, an alert, no certificate."
    UNTRUSTED = 21
    "The chain does not validate: unknown issuer, dates, usage, a broken link."
    NAME = 22
    "The certificate is for another name (RFC 8310, section 8.1)."
    PIN = 23
    "No pin matches (RFC 7858, section 4.2)."
    PROTOCOL = 24
    "The server broke the protocol after the handshake, its answer cannot be read, or its TSIG is wrong."
    FAILED_RCODE = 30
    "With ``--fail``: an answer came, and its RCODE is not NOERROR."
