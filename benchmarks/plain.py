"""asking.py and answering.py with messages as dnsperf has them, without EDNS; and our server on uvloop.

    python plain.py asking CA.pem < requests
    python plain.py answering {asyncio,asyncio-shared,uvloop,blocking,trio} CHAIN.pem OPTIONS

A request is a line of JSON, ``[drive, port, whether with EDNS, jobs]``; each is done in a process forked for it, so
that modules are imported once, and is answered by a line of costs.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from itertools import cycle, islice
from typing import NoReturn

import answering
import asking

from dot_io.tls import ServerContext
from dot_proto import make_query

OPT = 11
"Octets of an OPT record without options (RFC 6891, section 6.1.2); make_query puts it last."

HEADER = answering.HEADER[:-1] + b"\0"
"No additional record (RFC 1035, section 4.1.1)."

ANSWER = answering.ANSWER[:-OPT]


def without_opt(query: bytes) -> bytes:
    """A query of make_query's as it was before EDNS."""
    return query[:10] + b"\0\0" + query[12:-OPT]


def queries(count: int) -> list[bytes]:
    """As many queries, over all names in turn."""
    made = [without_opt(make_query(name)) for name in answering.NAMES[:count]]
    return list(islice(cycle(made), count))


def answer(message: bytes, _: object = None) -> bytes:
    """The response to one query."""
    return message[:2] + HEADER + message[answering.QUESTION] + ANSWER


def ask(ca: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            ask_once(ca, line)
        if status := os.waitpid(pid, 0)[1]:
            sys.exit(os.waitstatus_to_exitcode(status))


def ask_once(ca: str, line: str) -> NoReturn:
    drive, port, has_edns, jobs = json.loads(line)
    if not has_edns:
        asking.queries = queries
    sys.argv[1:] = [drive, str(port), ca]
    sys.stdin = io.StringIO(json.dumps(jobs))
    status = 1
    try:
        asking.main()
        print(flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    module = sys.argv.pop(1)
    if module == "asking":
        ask(sys.argv[1])
        return
    answering.answer = answer
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.run(answering.asyncio(ServerContext(sys.argv[2]), **json.loads(sys.argv[3])))
    else:
        answering.main()


if __name__ == "__main__":
    main()
