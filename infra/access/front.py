"""Between the network and the application under uvicorn: the guard, patience with connections, TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from infra.access.door import Door
from infra.access.guard import Guard
from infra.access.patience import Waiting, patient_protocol
from infra.access.policy import AccessSettings
from infra.access.tls import Certificate, Neighbourhood

_RENEW_S = 60.0
"""How often the certificate's files are looked at."""


class Front:
    """For an `app` in which `infra.access.web.install` was called: `app` and `protocol` are for
    `uvicorn.Config(front.app, http=front.protocol)`, `secured(config)` is what to serve within."""

    def __init__(self, app: FastAPI, settings: AccessSettings) -> None:
        door: Door = app.state.door
        self._neighbourhood: Neighbourhood = app.state.neighbourhood
        self._settings = settings
        self.app = Guard(app, door, settings)
        waiting: Waiting[object] = Waiting(settings.max_idle_connections, settings.max_idle_per_address)
        self.protocol = patient_protocol(waiting, settings.request_s, door.trusts)

    @asynccontextmanager
    async def secured(self, config: uvicorn.Config) -> AsyncIterator[None]:
        """`config` speaks TLS where there is a certificate. Raises `AccessConfigError`."""
        certificate = Certificate.of(self._settings)
        if certificate is None:
            yield
            return
        config.load()
        config.ssl = certificate.context
        renewing = asyncio.create_task(_renew(certificate, self._neighbourhood), name="certificate")
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing


async def _renew(certificate: Certificate, neighbourhood: Neighbourhood) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        changed = neighbourhood.renew(), certificate.renew()
        if any(changed):
            neighbourhood.knows(certificate)
