"""Encrypted DNS for programs that nobody wrote for us: what their libraries want to be given.

===============  ==================================================================================
``aiohttp``      ``Resolver(resolver)``, for ``aiohttp.TCPConnector(resolver=...)``
``dnspython``    ``nameserver(upstreams)``, for ``dns.resolver.Resolver.nameservers``
``event_loop``   ``new_event_loop(upstreams)``, for ``asyncio.Runner(loop_factory=...)``
``gevent``       ``Resolver(upstreams)``, for ``gevent.get_hub().resolver``
``niquests``     ``Resolver(upstreams)`` and ``AsyncResolver(upstreams)``, for ``niquests.Session(resolver=...)``
``process``      ``encrypted_dns(upstreams)``: ``socket.getaddrinfo`` and its kin, for the whole process
``trio``         ``HostnameResolver(resolver)``, for ``trio.socket.set_custom_hostname_resolver()``
``twisted``      ``NameResolver(reactor, upstreams)``, for ``reactor.installNameResolver()``
===============  ==================================================================================

Each needs the library that it is for, and brings none; docs/hooks.md says what each covers and what it cannot.
"""
