"""The HTTP client of the control plane: httpx, as it should be.

Rule: whatever a connection comes to, it is an `httpx.HTTPError`.
"""

from __future__ import annotations

import httpx


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            # Of a connection that is reset in the moment when it is made, anyio asks the socket
            # for its peer, and there is no socket any more.
            said = "the connection was reset as it was made"
            raise httpx.ConnectError(said, request=request) from error


def client() -> httpx.AsyncClient:
    """Each box has a stream of events and a message under way: httpx's 100 connections would be too
    few for 50 boxes. No proxy variable leads it away."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(transport=_Transport(limits=limits, trust_env=False), trust_env=False)
