"""What moves the octets for :mod:`dot_proto`, which does no I/O itself.

==========================  ==========================================================================
``dot_io.tls``              TLS sessions over memory buffers: still no socket; the only user of ``ssl``
``dot_io.blocking``         client and server on plain sockets and threads
``dot_io.asyncio``          the same on asyncio, also on uvloop
``dot_io.trio``             the same on trio
``dot_io.settings``         reads a file that says whom to ask
``dot_io.cli``              the ``dot-proto`` command
``dot_io.testing``          a server for tests, which misbehaves on request
``dot_io.pytest_plugin``    fixtures for pytest that make such servers
==========================  ==========================================================================

Nothing is imported here: a program pays only for the backend that it names.
"""
