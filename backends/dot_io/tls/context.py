"""What is agreed on before a connection: one ``ssl.SSLContext`` for one policy, made or audited by us.

Made from ``PROTOCOL_TLS_CLIENT`` rather than ``create_default_context``, whose flags differ between Python
versions and which obeys SSLKEYLOGFILE without being asked.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from dot_proto import AuthenticationPolicy, CertificateError, LocalProtocolError
from dot_proto.arguments import check_flag, check_instance, check_octets, wrong
from dot_proto.authentication import checked_anchors

from .._fork import forgets_after_fork
from .._stays import StaysInProcess
from . import trial
from .audit import (
    ALPN,
    IGNORE_UNEXPECTED_EOF,
    TLS12_CIPHERS,
    audit_client,
    audit_new_client,
    audit_new_server,
    audit_server,
    callback_error,
)
from .cache import ClientChains, SessionCache
from .callbacks import watch_callbacks
from .failures import describe
from .hello import Observer, observe
from .library import check_trust_store, library_error, limit_suites, new_context, site_versions
from .pair import check_password, load_pair

MAX_OTHERS: Final = 16
"Contexts that one keeps for handshakes under other policies than its own."


def _new_context(protocol: int, minimum: ssl.TLSVersion | None, maximum: ssl.TLSVersion | None) -> ssl.SSLContext:
    """The stricter of the site's settings and ours; versions that the caller asks for by name are the caller's."""
    context = new_context(protocol)
    of_site = site_versions(context)
    # Before anything is changed: the suites that are there now are the site's.
    has_tls12 = limit_suites(context, TLS12_CIPHERS)
    lowest = max(of_site[0], ssl.TLSVersion.TLSv1_2) if minimum is None else minimum
    highest = of_site[1] if maximum is None else maximum
    if lowest < ssl.TLSVersion.TLSv1_2:
        raise LocalProtocolError("DNS over TLS needs TLS 1.2 at least (RFC 8310, section 9)")
    if not has_tls12 and lowest == ssl.TLSVersion.TLSv1_2:
        lowest = ssl.TLSVersion.TLSv1_3  # this site allows no suite of TLS 1.2 that we do
    if highest is not ssl.TLSVersion.MAXIMUM_SUPPORTED and highest < lowest:
        text = f"no TLS version is left: {lowest.name} is the least, and {highest.name} the greatest"
        if minimum is None and maximum is None:
            raise library_error(text)
        raise LocalProtocolError(f"{text}; give minimum_version and maximum_version so that one is")
    context.minimum_version = lowest
    context.maximum_version = highest
    # A peer's identity was checked once and must not change (RFC 9325, section 3.5); off by default in Python.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~IGNORE_UNEXPECTED_EOF
    return context


def _client_context(
    policy: AuthenticationPolicy, minimum: ssl.TLSVersion | None, maximum: ssl.TLSVersion | None
) -> ssl.SSLContext:
    context = _new_context(ssl.PROTOCOL_TLS_CLIENT, minimum, maximum)
    # RFC 8310, section 8.1: the Subject is not looked at; Python looks unless told not to.
    context.hostname_checks_common_name = False
    # X509_STRICT is not set: private CAs often leave out key identifiers, and a pin or an anchor given by hand says
    # more about them than that.  Python 3.13 would set it in its default context.
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
    if not policy.validates:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif policy.trust_anchors is None:
        check_trust_store()
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust("trust_anchors", context, policy.trust_anchors)
    return context


def _server_context(
    certificate_file: str | os.PathLike[str],
    key_file: str | os.PathLike[str] | None,
    password: str | bytes | None,
    minimum: ssl.TLSVersion | None,
    maximum: ssl.TLSVersion | None,
    anchors: Iterable[bytes] | None,
) -> ssl.SSLContext:
    context = _new_context(ssl.PROTOCOL_TLS_SERVER, minimum, maximum)
    load_pair(context, certificate_file, key_file, password)
    context.set_alpn_protocols([ALPN])
    try:
        trial.protocol_preferred(context, ALPN)
    except trial.CannotServe as error:
        raise LocalProtocolError(
            f"no handshake can succeed with {os.fspath(certificate_file)}: OpenSSL says "
            f"{str(error).lower().replace('_', ' ')!r}, as where it has no suite for such a key"
        ) from error
    if anchors is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust("client_trust_anchors", context, anchors)
        # A resumed session would show nothing of the client's chain but its first certificate, and could only be
        # ended after the handshake, without the alert that says why (see server.py).  So under TLS 1.3 there is no
        # resumption, and each connection of such a client costs a full handshake.
        context.num_tickets = 0
    return context


def _trust(what: str, context: ssl.SSLContext, anchors: Iterable[bytes]) -> None:
    """Each certificate given is an anchor by itself, also one that another has signed; there are no others."""
    is_server = context.protocol is ssl.PROTOCOL_TLS_SERVER
    tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), is_server, None if is_server else "anybody")
    if tls.context is not context:
        # truststore does so where it is injected, and adds the system's anchors to those given here.
        raise LocalProtocolError(
            f"{what} cannot be the only anchors while ssl.SSLContext is {type(context).__module__}'s, which trusts "
            "others too: undo that (truststore.extract_from_ssl())"
        )
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=b"".join(anchors))
    except ssl.SSLError as error:
        raise CertificateError(f"{what}: OpenSSL cannot read one of them: {describe(error)}") from error


def _check_versions(minimum: object, maximum: object) -> None:
    for name, version in (("minimum_version", minimum), ("maximum_version", maximum)):
        if version is not None:
            check_instance(name, version, ssl.TLSVersion, "TLSVersion.TLSv1_3 is one")


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


def _check_buffers(incoming: object, outgoing: object) -> None:
    check_instance("incoming", incoming, ssl.MemoryBIO)
    check_instance("outgoing", outgoing, ssl.MemoryBIO)


class ClientContext(StaysInProcess):
    """What every connection of a client to one kind of server shares: the policy, TLS settings, sessions.

    ``sessions`` is the cache of sessions to resume; ``None`` makes one, ``False`` resumes nothing (each
    resumption tells the server that it has seen this client before: RFC 8446, C.4).  ``keylog_file`` is a path
    that key material is written to, for a packet analyser; a new file is readable for its owner alone.
    ``observe_handshake`` makes group and signature known, at a cost for every record.

    ``certificate_file`` and ``key_file`` are a client's own certificate chain and key, in PEM, and ``password`` is what
    the key is encrypted with, if it is; nobody is asked for it.  The certificate is shown only where the chain of the
    server is validated: otherwise an impostor would see it before any pin is compared.

    ``minimum_version`` and ``maximum_version`` are the stricter of the site's (openssl.cnf) and TLS 1.2 to 1.3, unless
    they are given here.  The suites are those of RFC 9325, section 4.2, that the site allows.

    ``ssl_context`` is somebody else's, to be used as it is instead of all that above.  It is refused, with the
    lines that mend it, where it would make the policy a lie; its trust anchors take the place of the policy's.

    Raises :class:`~dot_proto.LocalProtocolError` for what cannot be, its :class:`~dot_proto.CertificateError` for what
    is in the files; :class:`OSError` for files that cannot be read; :class:`~dot_io.errors.TLSLibraryError` where
    OpenSSL can do nothing here.
    """

    def __init__(
        self,
        policy: AuthenticationPolicy,
        *,
        minimum_version: ssl.TLSVersion | None = None,
        maximum_version: ssl.TLSVersion | None = None,
        offer_alpn: bool = True,
        sessions: SessionCache | bool | None = None,
        keylog_file: str | os.PathLike[str] | None = None,
        observe_handshake: bool = False,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        password: str | bytes | None = None,
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
        check_password(password, certificate_file, ssl_context)
        if ssl_context is not None and policy.tries_name:
            raise LocalProtocolError(
                "a policy that tries its name needs two contexts, one that validates and one that does not: "
                "leave out ssl_context"
            )
        if certificate_file is not None and (policy.is_opportunistic or policy.name is None):
            raise LocalProtocolError(
                "a client certificate needs a policy that validates the server's chain: give its name"
            )
        self.policy: Final = policy
        if sessions is None or sessions is True:
            sessions = SessionCache()
        self.sessions: Final = None if sessions is False else sessions
        self._given = ssl_context
        self._others: dict[AuthenticationPolicy, ClientContext] = {}
        self._whole: ClientContext | None = None
        self._last_anchor: ClientContext | None = None
        self._again = partial(
            ClientContext,
            minimum_version=minimum_version,
            maximum_version=maximum_version,
            offer_alpn=offer_alpn,
            sessions=False if self.sessions is None else self.sessions,  # shared, so that one forget() is enough
            keylog_file=keylog_file,
            observe_handshake=observe_handshake,
            certificate_file=certificate_file,
            key_file=key_file,
            password=password,
        )
        if ssl_context is not None:
            audit_new_client(ssl_context, policy, self._server_hostname)
            self._context = ssl_context
        else:
            self._context = context = _client_context(policy, minimum_version, maximum_version)
            if offer_alpn:
                context.set_alpn_protocols([ALPN])
            if certificate_file is not None and policy.validates:
                load_pair(context, certificate_file, key_file, password)
            if keylog_file is not None:
                # ssl would make it world-readable.
                os.close(os.open(keylog_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
                context.keylog_filename = os.fspath(keylog_file)
        self._observers = observe(self._context) if observe_handshake else None

    def with_learnt_anchor(self, certificate: bytes) -> ClientContext:
        """The context of a second handshake, after the first has shown the certificate of a pinned issuer."""
        check_octets("certificate", certificate, "a certificate's DER")
        return self.under(self.policy.with_learnt_anchor(certificate))

    def with_anchor(self, certificate: bytes) -> ClientContext:
        """The context of a handshake that tries one of several trust anchors by itself."""
        check_octets("certificate", certificate, "a certificate's DER")
        context = self.under(replace(self.policy, trust_anchors=(certificate,)))
        context._whole = self
        return context

    def with_last_anchor(self) -> ClientContext | None:
        """What :meth:`with_anchor` has made for the anchor that was right the last time, if it came to that."""
        return self._last_anchor

    def was_accepted(self) -> None:
        """A server was accepted in a handshake of this context."""
        if self._whole is not None:
            self._whole._last_anchor = self

    def under(self, policy: AuthenticationPolicy) -> ClientContext:
        """The context of another handshake with the same settings; kept for the next time, as its sessions are."""
        check_instance("policy", policy, AuthenticationPolicy)
        context = self._others.get(policy)
        if context is None:
            context = self._again(policy)
            kept = list(self._others.items())[1 - MAX_OTHERS :]
            self._others = {**dict(kept), policy: context}  # a whole new one, since threads may share us
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
        try:
            return self._context.wrap_bio(incoming, outgoing, server_hostname=self._server_hostname, session=session)
        except Exception as error:
            raise callback_error(error) from error

    @property
    def _server_hostname(self) -> str | None:
        return self.policy.name if self.policy.validates else self.policy.server_name

    def count_trust_anchors(self) -> int:
        """How many certificates may end a chain, for display; those in a directory only count once used."""
        try:
            return self._context.cert_store_stats()["x509"]
        except NotImplementedError:  # truststore: the system's own code looks them up
            return 0

    def observer_of(self, tls: ssl.SSLObject) -> Observer | None:
        """What the handshake showed, if it is being observed."""
        if not hasattr(tls, "cipher"):  # what stands for one will do
            raise wrong("tls", "an SSLObject", tls)
        return None if self._observers is None else self._observers.get(tls)


class ServerContext(StaysInProcess):
    """What every connection to a server shares: certificate chain, key, TLS settings.

    ``certificate_file`` holds the chain in PEM, leaf first; ``key_file`` the private key, if it is not in there
    too; ``password`` is what the key is encrypted with, if it is: nobody is asked for it.  A date that is wrong is no
    error, but a warning in the log (``dot_io``).  With ``client_trust_anchors``, certificates in DER, every client must
    show a certificate that one of them vouches for.  ``minimum_version``, ``maximum_version`` and the suites are as for
    a :class:`ClientContext`.  ``ssl_context`` is somebody else's, to be used as it is instead of all that; it is
    refused, with the lines that mend it, where it breaks a rule or could serve nobody.

    Raises :class:`~dot_proto.LocalProtocolError` for what cannot be, its :class:`~dot_proto.CertificateError` for what
    is in the files; :class:`OSError` for files that cannot be read; :class:`~dot_io.errors.TLSLibraryError` where
    OpenSSL can do nothing here.
    """

    def __init__(
        self,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        *,
        password: str | bytes | None = None,
        minimum_version: ssl.TLSVersion | None = None,
        maximum_version: ssl.TLSVersion | None = None,
        client_trust_anchors: Iterable[bytes] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if ssl_context is not None:
            check_instance("ssl_context", ssl_context, ssl.SSLContext)
        if (certificate_file is None) is (ssl_context is None):
            raise LocalProtocolError("a server needs a certificate_file, or an ssl_context that has one; not both")
        _check_versions(minimum_version, maximum_version)
        _check_files({"certificate_file": certificate_file, "key_file": key_file}, ssl_context)
        check_password(password, certificate_file, ssl_context)
        if client_trust_anchors is not None and ssl_context is not None:
            raise LocalProtocolError("client_trust_anchors or an ssl_context that has them; not both")
        self.client_chains: Final = ClientChains()
        self._again: Callable[[], ssl.SSLContext] | None = None  # where the context is ours
        self._reloading = threading.RLock()
        self._reloads = 0
        forgets_after_fork(self)
        if ssl_context is not None:
            audit_new_server(ssl_context)
            self._context = ssl_context
            return
        assert certificate_file is not None
        anchors = None
        if client_trust_anchors is not None:
            anchors = checked_anchors("client_trust_anchors", client_trust_anchors, without="to ask for none")
        self._again = partial(
            _server_context, certificate_file, key_file, password, minimum_version, maximum_version, anchors
        )
        self._context = self._again()

    def reload(self) -> None:
        """Read the same files again, as after a certificate was renewed; connections to come use what is there now.

        Connections that are open go on as they are.  A session of before is not resumed: each client makes one full
        handshake, and so sees the new certificate.  Raises what the constructor does, and then nothing has changed.
        Threads and handlers of signals may call it at any time.  It takes some milliseconds: a loop that must not wait
        so long calls it in a thread.
        """
        if self._again is None:
            raise LocalProtocolError(
                "reload() reads the files of a ServerContext that was made from files; of this one the ssl_context is "
                "yours: let its sni_callback choose a newer one for each connection"
            )
        with self._reloading:
            self._reloads += 1
            number = self._reloads
            context = self._again()
            if number == self._reloads:  # else a signal came meanwhile, whose handler has read the files later
                self._context = context

    def forget_parents(self) -> None:
        """In a forked child: the lock may have been another thread's."""
        self._reloading = threading.RLock()

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """One connection's TLS state.

        Raises :class:`~dot_proto.LocalProtocolError` for a context that has been changed for the worse since.
        """
        _check_buffers(incoming, outgoing)
        context = self._context
        if self._again is None:
            audit_server(context)
            watch_callbacks(context)
        try:
            return context.wrap_bio(incoming, outgoing, server_side=True)
        except Exception as error:
            raise callback_error(error) from error
