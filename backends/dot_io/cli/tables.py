"""The options of each subcommand; importing them costs nothing else, so that help comes at once."""

from __future__ import annotations

from typing import Final

from ._options import PADDING, RANDOM_COOKIE, TIMEOUT, Option, Options

ALL: Final = ("header", "comments", "question", "answer", "authority", "additional", "opt", "tsig", "stats")
"What ``+all`` shows, and ``+noall`` hides."

NO_TLS: Final = "this command speaks DNS over TLS only"
_SEARCH: Final = "no name is completed here: write it whole"
_ASK_ONE: Final = "this command asks the servers that are named, and no others"

REFUSED: Final = {
    "notls": f"{NO_TLS}; nothing is ever sent in cleartext",
    "https": NO_TLS,
    "https-get": NO_TLS,
    "http-plain": NO_TLS,
    "http-plain-get": NO_TLS,
    "quic": NO_TLS,
    "-u": NO_TLS,
    "trace": f"{_ASK_ONE}; servers of the root speak no TLS",
    "nssearch": _ASK_ONE,
    "dns64prefix": _ASK_ONE,
    "domain": _SEARCH,
    "ndots": _SEARCH,
    "showsearch": _SEARCH,
    "defname": _SEARCH,
    "noidnin": "a name that is not ASCII is always asked for in A-labels (RFC 5891)",
    "yaml": "there is no YAML here; +json is RFC 8427",
    "qid": "the connection draws the ids, since they tell the answers apart (RFC 7766, section 6.2.1)",
    "proxy": "no PROXY header is sent",
    "proxy-plain": "no PROXY header is sent",
    "tls-ocsp-stapling": "Python's ssl shows no OCSP response",
    "header-only": "a query without a question is refused by nearly every server",
    "showbadcookie": "no query is repeated for a cookie",
    "showbadvers": "no query is repeated for an EDNS version: what came is shown",
    "showallmessages": "one message answers a query",
    "showtruncated": "over TLS nothing is truncated for want of space",
    "mapped": "no IPv4 address is written as an IPv6 address here",
    "-m": "that is for dig's own developers",
    "-i": "ip6.int is gone (RFC 4159): -x asks below ip6.arpa",
    "-v": "write -V for the version",
    "-E": "no dnstap is written",
    "-G": "no dnstap is read",
    "-n": "ip6.int is gone (RFC 4159): -x asks below ip6.arpa",
    "-s": "there is no udp to choose the size of",
}
"Options of dig and kdig that have no place here, and why."

IGNORED: Final = (
    *("tls", "tcp", "vc", "retry", "tries", "ignore", "fail", "search", "cmd", "keepopen", "fastopen"),
    *("besteffort", "badcookie", "ednsnegotiation", "onesoa", "idnin"),
)
"Options of dig and kdig that change nothing over TLS, or are always on."


def _switch(names: str, *sets: str, help: str = "") -> Option:
    return Option(tuple(names.split()), sets, help)


QUERY: Final = Options(
    "query",
    "[-d] @SERVER[:PORT][#NAME] [OPTION ...] NAME [TYPE] [CLASS] [NAME ...]",
    "Ask a server over TLS.  Every --x may be written +x, as in dig, and cut; +nox takes +x back.\n"
    "Words before the first name are for all names; words after a name are for that one.\n"
    "Strict unless told otherwise: the system's trust store, and the server's name or address.\n"
    "With pins, and neither --tls-ca nor a name: the pins alone, compared with the server's own key.",
    {
        "what is asked": (
            Option(("-q",), ("name",), "a name, whatever it looks like", "any_text", "NAME"),
            Option(("-t",), ("rdtype",), "the type (default A; NS without a name)", "rdtype", "TYPE"),
            Option(("-c",), ("rdclass",), "the class (default IN)", "rdclass", "CLASS"),
            Option(("-x",), ("reverse",), "ask for the name of an address", "any_text", "ADDR"),
            Option(("-f",), ("batch",), "each line of a file ('-': stdin) is a command line", "text", "FILE"),
            Option(("--config",), ("config",), "words to be read first", "text", "FILE"),
        ),
        "the server": (
            Option(("-p",), ("port",), "port of the server (default 853)", "port", "PORT"),
            Option(
                ("+tls-ca",),
                ("ca_file",),
                "trust anchors in PEM (default: the system's)",
                "any_text",
                "[FILE]",
                bare="",
                takes="is_file",
            ),
            Option(
                ("+tls-host", "+tls-hostname"),
                ("tls_host",),
                "name that the certificate must be for",
                "server_name",
                "NAME",
            ),
            Option(
                ("+tls-pin",),
                ("pins",),
                "SHA-256 of the key to expect; repeatable",
                "pin",
                "BASE64",
                repeats=True,
                negated=(),
            ),
            Option(("+tls-sni",), ("sni",), "name to send, with --opportunistic", "server_name", "NAME"),
            Option(("+tls-certfile",), ("certificate_file",), "our own certificate, in PEM", "text", "FILE"),
            Option(("+tls-keyfile",), ("key_file",), "its key, in PEM", "text", "FILE"),
            _switch("+opportunistic", "opportunistic", help="encrypt, and ask whoever answers"),
            _switch("+tls1.2", "tls12_only", help="TLS 1.2 only"),
            Option(
                ("+timeout", "+time"),
                ("timeout",),
                f"seconds for all of it (default {TIMEOUT:g})",
                "seconds",
                "S",
            ),
            _switch("-4", "ipv4", help="IPv4 only"),
            _switch("-6", "ipv6", help="IPv6 only"),
            Option(("-b",), ("source",), "ask from this address of ours", "source", "ADDR[#PORT]"),
        ),
        "the query": (
            Option(("-y",), ("key",), "sign with TSIG; others may see the key", "key", "[ALG:]NAME:KEY"),
            Option(("-k",), ("key",), "sign with the key in a file of BIND's form", "key_file", "FILE"),
            Option(
                ("+padding", "+alignment"),
                ("padding",),
                f"pad to multiples of N (default {PADDING})",
                "padding",
                "[N]",
                bare=PADDING,
                takes="is_decimal",
                negated=None,
            ),
            _switch("+dnssec +do", "dnssec", help="ask for DNSSEC records (DO)"),
            _switch("+rdflag +recurse", "rd", help="ask for recursion (default)"),
            _switch("+adflag", "ad", help="ask whether it was validated (default)"),
            _switch("+cdflag", "cd", help="ask for what is not validated too"),
            _switch("+aaflag +aaonly", "aa", help="set AA"),
            _switch("+tcflag", "tc", help="set TC"),
            _switch("+raflag", "ra", help="set RA"),
            _switch("+zflag", "z", help="set the bit that is reserved"),
            _switch("+nsid", "nsid", help="ask for the server's identity"),
            Option(
                ("+subnet",),
                ("subnet",),
                "client subnet; 0/0: none is to be used",
                "subnet",
                "ADDR/BITS",
                negated=None,
            ),
            Option(
                ("+cookie",),
                ("cookie",),
                "send a cookie (default: drawn)",
                "cookie",
                "[HEX]",
                bare=RANDOM_COOKIE,
                negated=None,
            ),
            _switch("+expire", "expire", help="ask when a secondary's zone expires"),
            _switch("+keepalive", "keepalive", help="ask how long the server stays"),
            Option(
                ("+ednsopt",),
                ("options",),
                "any option, by number or name; repeatable",
                "edns_option",
                "CODE[:HEX]",
                repeats=True,
                negated=(),
            ),
            Option(
                ("+edns",),
                ("edns",),
                "EDNS version (default 0)",
                "octet",
                "[N]",
                bare=0,
                negated=None,
            ),
            Option(("+ednsflags",), ("ednsflags",), "EDNS flags beside DO", "half", "N"),
            Option(("+bufsize",), ("payload",), "UDP payload size; no effect over TLS", "half", "N"),
            Option(("+opcode",), ("opcode",), "another opcode than QUERY", "opcode", "NAME"),
        ),
        "what is shown": (
            _switch("-d", "debug", help="certificates, verdict, session and times too"),
            _switch("+short", "short", help="the answer's data only"),
            _switch("+json", "json", help="JSON (RFC 8427) with a member 'tls'"),
            _switch("+jsonl", "jsonl", help="the same, on one line for each query"),
            _switch("+all", *ALL, help="all that follows, down to the statistics; +noall hides it"),
            _switch("+header", "header", help="the header"),
            _switch("+comments", "comments", help="the session, and titles of sections"),
            _switch("+question", "question", help="the question"),
            _switch("+answer", "answer", help="the answer section"),
            _switch("+authority", "authority", help="the authority section"),
            _switch("+additional", "additional", help="the additional section"),
            _switch("+opt", "opt", help="EDNS"),
            _switch("+tsig", "tsig", help="the signature by TSIG"),
            _switch("+stats", "stats", help="size, time and server"),
            _switch("+qr", "qr", help="the query, as it is sent"),
            _switch("+class", "rrclass", help="the class of each record"),
            _switch("+ttl +ttlid", "ttl", help="the TTL of each record"),
            _switch("+ttlunits", "ttlunits", help="TTLs in hours, minutes and seconds"),
            _switch("+multiline", "multiline", help="long records on several lines"),
            _switch("+crypto", "crypto", help="keys and signatures (default)"),
            _switch("+generic +unknownformat", "generic", help="data as octets (RFC 3597)"),
            _switch("+idn +idnout", "idn", help="U-labels (default: on a terminal)"),
            Option(
                ("--color", "--colour"),
                ("color",),
                "always, never or auto",
                "when",
                "WHEN",
            ),
        ),
        "the rest": (
            _switch("--fail", "fail", help="exit with 30 where an RCODE is not NOERROR"),
            Option(("-V", "--version"), ("version",), "show the version"),
            Option(("-h", "--help"), ("help",), "show this"),
            Option(("-r",), ("ignored",), "accepted and needless: no file is read unasked", repeats=True),
            *(Option((f"+{name}",), ("ignored",), repeats=True) for name in IGNORED),
        ),
    },
    "exit codes: 0 an answer, whatever its RCODE; 1 wrong usage; 8 no such batch file; 9 no reply;\n"
    "10 a defect of this program; 20 no TLS; 21 untrusted chain; 22 wrong name; 23 no pin matches;\n"
    "24 the protocol broken, or TSIG; 30 see --fail\n"
    "\n"
    "examples:\n"
    "  dot-proto query -d @1.1.1.1 +tls-ca +tls-host=cloudflare-dns.com example.com\n"
    "  dot-proto query @9.9.9.9#dns.quad9.net example.com AAAA +short",
    REFUSED,
)

PIN: Final = Options(
    "pin",
    "[-p PORT] [--tls-host=NAME] [--timeout=S] [--json] SERVER|FILE",
    "Show the SHA-256 pins of a server's chain, or of a certificate or public key in a file (PEM or\n"
    "DER).  A server is asked nothing, and what it shows proves nothing by itself: compare it with\n"
    "what you were told.",
    {
        "options": (
            Option(("-p",), ("port",), "port of the server (default 853)", "port", "PORT"),
            Option(
                ("+tls-host", "+tls-hostname"),
                ("server_name",),
                "name to ask the server for",
                "server_name",
                "NAME",
            ),
            Option(("+timeout", "+time"), ("timeout",), f"seconds (default {TIMEOUT:g})", "seconds", "S"),
            Option(("+json",), ("json",), "show them as JSON"),
            Option(("-h", "--help"), ("help",), "show this"),
        )
    },
)

DEMO: Final = Options(
    "demo",
    "",
    "Ask a server of our own on loopback, rightly and with a wrong pin; needs no network.",
    {"options": (Option(("-h", "--help"), ("help",), "show this"),)},
)

TABLES: Final = {"query": QUERY, "pin": PIN, "demo": DEMO}
"By subcommand."
