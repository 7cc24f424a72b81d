"""What handlers reach through the application and the request, by typed keys."""

from aiohttp import web

from gateway.etags import Etags
from gateway.health import Health
from gateway.idempotency import Idempotency
from gateway.identity import Identity, Verifier
from gateway.limits import Limiter, Standing
from gateway.live import LiveHandler
from gateway.names import Names
from gateway.sanctions import Sanctions
from gateway.settings import Settings
from gateway.traffic import Traffic
from gateway.upstreams import Upstreams

SETTINGS = web.AppKey("settings", Settings)
UPSTREAMS = web.AppKey("upstreams", Upstreams)
VERIFIER = web.AppKey("verifier", Verifier)
LIMITER = web.AppKey("limiter", Limiter)
ETAGS = web.AppKey("etags", Etags)
IDEMPOTENCY = web.AppKey("idempotency", Idempotency)
NAMES = web.AppKey("names", Names)
SANCTIONS = web.AppKey("sanctions", Sanctions)
HEALTH = web.AppKey("health", Health)
TRAFFIC = web.AppKey("traffic", Traffic)
LIVE = web.AppKey("live", LiveHandler)

# Of a request, set before its handler runs.
REQUEST_ID = web.RequestKey("request_id", str)
ADDRESS = web.RequestKey("address", str)  # the caller's, as text
IDENTITY = web.RequestKey("identity", Identity)  # where a token was needed, or given
STANDING = web.RequestKey("standing", Standing)  # with the limits of the route
KEY_HASH = web.RequestKey("key_hash", bytes)  # of caller, route and Idempotency-Key, where given
