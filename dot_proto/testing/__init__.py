"""A kit for fuzzing: our engine, or anybody's framer, client, server or verifier.  Needs the extra ``hypothesis``.

=================  ==================================================================================
module             what is in it
=================  ==================================================================================
``messages``       DNS messages built octet by octet, and the reference framer; needs nothing but Python
``strategies``     Hypothesis strategies: names, messages, streams, how they are cut, how they are broken
``peers``          scripts of what a server does, well or badly, step by step
``runner``         runs a client through such a script, and returns a trace of what it did
``laws``           ``check_framer``, ``check_client``, ``check_server``: for any implementation
``checkers``       what those laws require of a client and of a server, checked call by call
``duties``         ``check_duties``: a driver that keeps its duties hears every end, for any session; ``every_moment``
``exchange``       two sessions, two drivers with no other duties, TCP between them; the laws that they keep
``machines``       state machines: every call on a client or a server in any order, against a model
``recording``      the calls on a connection, as a script in Python, and their replay
``chains``         certificate chains, honest and forged, with the verdict due; needs ``cryptography``
``simulate``       thousands of hours of our engine on a virtual network, in seconds; needs nothing but Python
``resolver``       ``check_resolver``: hours of a stub resolver's life among upstreams that fail; Python alone
=================  ==================================================================================

The machines' parts are ``connection_machine``, ``client_machine``, ``client_model``, ``server_machine`` and
``server_model``.

Nothing is imported until asked for: import the module that you need.  docs/fuzzing.md shows how.
"""
