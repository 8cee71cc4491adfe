"""A kit for fuzzing: our engine, or anybody's client, server or framer.  Needs the extra ``hypothesis``.

=================  ==================================================================================
module             what is in it
=================  ==================================================================================
``messages``       DNS messages built octet by octet; needs nothing but Python
``strategies``     Hypothesis strategies: names, messages, streams, how they are cut, how they are broken
``peers``          scripts of what a server does, well or badly, step by step
``chains``         certificate chains, honest and forged, with the verdict due; needs ``cryptography``
``laws``           ``check_framer``, ``check_client``, ``check_server``: for any implementation
``machines``       state machines that play with our connections in any order, against a plain model
=================  ==================================================================================

Nothing is imported until asked for: import the module that you need.
"""
