"""Whom to ask, above one connection: no I/O, no clock, and nothing here that a single connection needs.

===============  ==================================================================================
``upstream``     what an upstream is, and its URL
``importers``    the forms in which other programs write theirs, and DNS stamps
``settings``     a list of upstreams in a configuration file, as TOML (or JSON) has been read
``operators``    public resolvers by name: addresses, names, the page that says so, and the date
===============  ==================================================================================
"""
