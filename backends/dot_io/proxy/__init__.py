"""A proxy for the DNS of a whole machine: UDP and TCP in, authenticated DNS over TLS out; on asyncio."""
