"""What :mod:`dot_proto.testing.simulate` is made of.

=================  ======================================================================================
module             what is in it
=================  ======================================================================================
``network``        the scheduler: virtual time, one source of chance, the record; and links that misbehave
``checked``        what the invariants of both roles have in common; memory
``clients``        a client connection with every invariant checked at every call
``servers``        the same for a server connection
``drivers``        what a backend does, on virtual lines
``credentials``    policies, what servers show in a handshake, and whether the one is enough for the other
``workload``       programs that ask and hosts that answer, with our engines
``hostile_peers``  peers that break every rule, without our engines
=================  ======================================================================================
"""
