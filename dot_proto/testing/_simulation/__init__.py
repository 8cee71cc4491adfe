"""What :mod:`dot_proto.testing.simulate` and :mod:`dot_proto.testing.resolver` are made of.

===================  ====================================================================================
module               what is in it
===================  ====================================================================================
``network``          the scheduler: virtual time, one source of chance, the record; and links that misbehave
``command``          the command of both: one run after another, progress, and what is printed of a failure
``checked``          what the invariants of both roles have in common; memory
``clients``          a client connection with every invariant checked at every call
``servers``          the same for a server connection
``drivers``          what a backend does, on virtual lines
``credentials``      policies, what servers show in a handshake, and whether the one is enough for the other
``workload``         programs that ask and hosts that answer, with our engines
``hostile_peers``    peers that break every rule, without our engines
``upstreams``        servers of a stub resolver, and how they behave just now
``resolver_driver``  what drives a stub resolver, on a machine that sleeps and moves
``resolver_laws``    the laws that a stub resolver keeps, each with its words
===================  ====================================================================================
"""
