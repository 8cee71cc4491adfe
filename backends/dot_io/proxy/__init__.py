"""A proxy for the DNS of a whole machine: UDP and TCP in, authenticated DNS over TLS out; on asyncio.

>>> from dot_io.proxy import Proxy
>>> from dot_proto import Upstream
>>> async def main():
...     async with Proxy([Upstream.well_known("quad9")]) as proxy:
...         await proxy.serve_forever()
"""

from ._proxy import Proxy as Proxy
from .configuration import AnyQueries as AnyQueries
from .configuration import ClientSubnet as ClientSubnet
from .configuration import PrivateAnswers as PrivateAnswers
from .configuration import ProxyConfiguration as ProxyConfiguration
from .configuration import SpecialNames as SpecialNames

__all__ = ["AnyQueries", "ClientSubnet", "PrivateAnswers", "Proxy", "ProxyConfiguration", "SpecialNames"]
