"""A box as the data plane sees it: where requests go, and the key that they show there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from router.config import Sidecar
from shared.headers import Headers
from shared.wire import Origin


@dataclass(frozen=True, slots=True)
class Peer:
    origin: Origin
    headers: Headers

    @classmethod
    def of(cls, sidecar: Sidecar) -> Self:
        headers = [(k.encode(), v.encode()) for k, v in bearer(sidecar).items()]
        return cls(Origin.of(sidecar.url), headers)


def bearer(sidecar: Sidecar) -> dict[str, str]:
    """The header that shows this router's key to a sidecar, if it has one."""
    if sidecar.key is None:
        return {}
    return {"authorization": f"Bearer {sidecar.key.get_secret_value()}"}
