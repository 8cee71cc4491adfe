"""What is agreed on before a connection: one ``ssl.SSLContext`` for one policy, made or audited by us.

Made from ``PROTOCOL_TLS_CLIENT`` rather than ``create_default_context``, whose flags differ between Python
versions and which obeys SSLKEYLOGFILE without being asked.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from dot_proto import AuthenticationPolicy, LocalProtocolError
from dot_proto.arguments import check_flag, check_instance, check_octets, wrong
from dot_proto.authentication import check_anchors

from .._stays import StaysInProcess
from .audit import IGNORE_UNEXPECTED_EOF, audit_client, audit_server, warn_of_weakness
from .cache import ClientChains, SessionCache
from .hello import Observer, observe

ALPN: Final = "dot"
"The protocol's name in ALPN (RFC 7858; IANA TLS Application-Layer Protocol Negotiation Protocol IDs)."

TLS12_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"Forward secrecy and AEAD alone (RFC 9325, section 4.2); leaves out static RSA, CBC, anonymous and PSK suites."


def _restrict(context: ssl.SSLContext, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion) -> None:
    if minimum < ssl.TLSVersion.TLSv1_2:
        raise LocalProtocolError("DNS over TLS needs TLS 1.2 at least (RFC 8310, section 9)")
    context.minimum_version = minimum
    context.maximum_version = maximum
    context.set_ciphers(TLS12_CIPHERS)
    # A peer's identity was checked once and must not change (RFC 9325, section 3.5); off by default in Python.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~IGNORE_UNEXPECTED_EOF


def _client_context(policy: AuthenticationPolicy) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # RFC 8310, section 8.1: the Subject is not looked at; Python looks unless told not to.
    context.hostname_checks_common_name = False
    # X509_STRICT is not set: private CAs often leave out key identifiers, and a pin or an anchor given by hand says
    # more about them than that.  Python 3.13 would set it in its default context.
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
    if not policy.validates:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif policy.trust_anchors is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, policy.trust_anchors)
    return context


def _trust(context: ssl.SSLContext, anchors: Iterable[bytes]) -> None:
    """Each certificate given is an anchor by itself, also one that another has signed."""
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=b"".join(anchors))


def _check_versions(minimum: object, maximum: object) -> None:
    for name, version in (("minimum_version", minimum), ("maximum_version", maximum)):
        check_instance(name, version, ssl.TLSVersion, "TLSVersion.TLSv1_3 is one")
    if maximum is not ssl.TLSVersion.MAXIMUM_SUPPORTED and maximum < minimum:  # type: ignore[operator]
        raise LocalProtocolError("maximum_version is below minimum_version, so that no version is left")


def _check_files(files: Mapping[str, object], ssl_context: object) -> None:
    """Paths, and none beside a context that somebody else has made, where it would be passed over in silence."""
    if ssl_context is not None:
        check_instance("ssl_context", ssl_context, ssl.SSLContext)
    for name, path in files.items():
        if path is None:
            continue
        if not isinstance(path, str | os.PathLike):
            hint = "give the file's name, not what is in it" if isinstance(path, bytes) else ""
            raise wrong(name, "the path of a file", path, hint)
        text = os.fspath(path)
        if not isinstance(text, str) or "\0" in text or "-----BEGIN" in text:
            raise wrong(name, "the path of a file", text, "give the file's name, not what is in it")
        if ssl_context is not None:
            raise LocalProtocolError(f"{name} or an ssl_context that has one; not both")
    if files["key_file"] is not None and files["certificate_file"] is None:
        raise LocalProtocolError("key_file is given without a certificate_file: give both")


def _load_identity(
    context: ssl.SSLContext, certificate_file: str | os.PathLike[str], key_file: str | os.PathLike[str] | None
) -> None:
    """As ssl does; but it would ask for a password on the terminal, and does not say which file it is about."""
    files = f"certificate_file {os.fspath(certificate_file)!r}"
    if key_file is not None:
        files += f", key_file {os.fspath(key_file)!r}"

    def ask_nobody() -> str:
        raise LocalProtocolError(f"the private key is encrypted ({files}): give it decrypted, or an ssl_context")

    try:
        context.load_cert_chain(certificate_file, key_file, ask_nobody)
    except OSError as error:
        error.add_note(files)
        if not isinstance(error, ssl.SSLError) and error.filename is None:
            error.filename = os.fspath(certificate_file if key_file is None else key_file)
        raise


def _check_buffers(incoming: object, outgoing: object) -> None:
    check_instance("incoming", incoming, ssl.MemoryBIO)
    check_instance("outgoing", outgoing, ssl.MemoryBIO)


class ClientContext(StaysInProcess):
    """What every connection of a client to one kind of server shares: the policy, TLS settings, sessions.

    ``sessions`` is the cache of sessions to resume; ``None`` makes one, ``False`` resumes nothing (each
    resumption tells the server that it has seen this client before: RFC 8446, C.4).  ``keylog_file`` is a path
    that key material is written to, for a packet analyser; a new file is readable for its owner alone.
    ``observe_handshake`` makes group and signature known, at a cost for every record.

    ``certificate_file`` and ``key_file`` are a client's own certificate chain and key, in PEM.  They are shown only
    where the chain of the server is validated: otherwise an impostor would see them before any pin is compared.

    ``ssl_context`` is somebody else's, to be used as it is instead of all that above.  It is refused, with the
    reason, where it would make the policy a lie; its trust anchors take the place of the policy's.

    Raises :class:`~dot_proto.LocalProtocolError` for what cannot be; :class:`OSError` and :class:`ssl.SSLError` for
    files that cannot be used, as ssl does.
    """

    def __init__(
        self,
        policy: AuthenticationPolicy,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        offer_alpn: bool = True,
        sessions: SessionCache | bool | None = None,
        keylog_file: str | os.PathLike[str] | None = None,
        observe_handshake: bool = False,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        hint = "ServerContext takes a file" if hasattr(policy, "__fspath__") else ""
        hint = 'AuthenticationPolicy.strict("dns.example") is one' if isinstance(policy, str) else hint
        check_instance("policy", policy, AuthenticationPolicy, hint)
        _check_versions(minimum_version, maximum_version)
        check_flag("offer_alpn", offer_alpn)
        check_flag("observe_handshake", observe_handshake)
        if not isinstance(sessions, SessionCache | bool | None):
            raise wrong("sessions", "a SessionCache, True, False or None", sessions)
        files = {"keylog_file": keylog_file, "certificate_file": certificate_file, "key_file": key_file}
        _check_files(files, ssl_context)
        if certificate_file is not None and not (policy.validates or policy.issuer_pins):
            raise LocalProtocolError(
                "a client certificate needs a policy that validates the server's chain: give its name"
            )
        self.policy: Final = policy
        if sessions is None or sessions is True:
            sessions = SessionCache()
        self.sessions: Final = None if sessions is False else sessions
        self._given = ssl_context
        self._learnt: dict[bytes, ClientContext] = {}
        self._again = partial(
            ClientContext,
            minimum_version=minimum_version,
            maximum_version=maximum_version,
            offer_alpn=offer_alpn,
            sessions=self.sessions is not None,
            keylog_file=keylog_file,
            observe_handshake=observe_handshake,
            certificate_file=certificate_file,
            key_file=key_file,
        )
        if ssl_context is not None:
            audit_client(ssl_context, policy)
            warn_of_weakness(ssl_context)
            self._context = ssl_context
        else:
            self._context = context = _client_context(policy)
            _restrict(context, minimum_version, maximum_version)
            if offer_alpn:
                context.set_alpn_protocols([ALPN])
            if certificate_file is not None and policy.validates:
                _load_identity(context, certificate_file, key_file)
            if keylog_file is not None:
                # ssl would make it world-readable.
                os.close(os.open(keylog_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
                context.keylog_filename = os.fspath(keylog_file)
        self._observers = observe(self._context) if observe_handshake else None

    def with_learnt_anchor(self, certificate: bytes) -> ClientContext:
        """The context of a second handshake, after the first has shown the certificate of a pinned issuer.

        Kept for the next time, since the sessions to resume are in it.
        """
        check_octets("certificate", certificate, "a certificate's DER")
        context = self._learnt.get(certificate)
        if context is None:
            context = self._again(self.policy.with_learnt_anchor(certificate))
            self._learnt = {certificate: context}  # a whole new one, since threads may share us
        return context

    def wrap(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, session: ssl.SSLSession | None = None
    ) -> ssl.SSLObject:
        """One connection's TLS state.

        Raises :class:`~dot_proto.LocalProtocolError` for a context that has been changed for the worse since.
        """
        _check_buffers(incoming, outgoing)
        if session is not None:
            check_instance("session", session, ssl.SSLSession)
        if self._given is not None:
            audit_client(self._given, self.policy)
        name = self.policy.name if self.policy.validates else self.policy.server_name
        return self._context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)

    def count_trust_anchors(self) -> int:
        """How many certificates may end a chain, for display; those in a directory only count once used."""
        return self._context.cert_store_stats()["x509"]

    def observer_of(self, tls: ssl.SSLObject) -> Observer | None:
        """What the handshake showed, if it is being observed."""
        if not hasattr(tls, "cipher"):  # what stands for one will do
            raise wrong("tls", "an SSLObject", tls)
        return None if self._observers is None else self._observers.get(tls)


class ServerContext(StaysInProcess):
    """What every connection to a server shares: certificate chain, key, TLS settings.

    ``certificate_file`` holds the chain in PEM, leaf first; ``key_file`` the private key, if it is not in there
    too.  With ``client_trust_anchors``, certificates in DER, every client must show a certificate that one of them
    vouches for.  ``ssl_context`` is somebody else's, to be used as it is instead of all that.

    Raises :class:`~dot_proto.LocalProtocolError` for what cannot be; :class:`OSError` and :class:`ssl.SSLError` for
    files that cannot be used, as ssl does.
    """

    def __init__(
        self,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        *,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        client_trust_anchors: Iterable[bytes] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if ssl_context is not None:
            check_instance("ssl_context", ssl_context, ssl.SSLContext)
        if (certificate_file is None) is (ssl_context is None):
            raise LocalProtocolError("a server needs a certificate_file, or an ssl_context that has one; not both")
        _check_versions(minimum_version, maximum_version)
        _check_files({"certificate_file": certificate_file, "key_file": key_file}, ssl_context)
        if client_trust_anchors is not None:
            if ssl_context is not None:
                raise LocalProtocolError("client_trust_anchors or an ssl_context that has them; not both")
            client_trust_anchors = check_anchors("client_trust_anchors", client_trust_anchors)
            if not client_trust_anchors:
                raise LocalProtocolError("client_trust_anchors is empty, so that no client could ever be let in")
        self.client_chains: Final = ClientChains()
        self._given = False  # whether somebody else has made the context
        if ssl_context is not None:
            audit_server(ssl_context)
            warn_of_weakness(ssl_context)
            self._context = ssl_context
            self._given = True
            return
        assert certificate_file is not None
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _restrict(context, minimum_version, maximum_version)
        _load_identity(context, certificate_file, key_file)
        context.set_alpn_protocols([ALPN])
        if client_trust_anchors is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            _trust(context, client_trust_anchors)
            # A resumed session would show nothing of the client's chain but its first certificate, and could only be
            # ended after the handshake, without the alert that says why (see server.py).  So under TLS 1.3 there is no
            # resumption, and each connection of such a client costs a full handshake.
            context.num_tickets = 0

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """One connection's TLS state.

        Raises :class:`~dot_proto.LocalProtocolError` for a context that has been changed for the worse since.
        """
        _check_buffers(incoming, outgoing)
        if self._given:
            audit_server(self._context)
        return self._context.wrap_bio(incoming, outgoing, server_side=True)
