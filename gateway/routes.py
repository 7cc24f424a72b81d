"""The whole API on one screen: each address, who answers it, who may ask, what it counts against.

A scope is what the access token must hold. Nothing that is not listed here is answered.
"""

from aiohttp import web

from gateway import accounts, actions, admin, assets, boards, probes, scores, sockets
from gateway.limits import ACTIONS, SCORES
from gateway.middleware import PUBLIC, Endpoint, Route

API = "/api/v1"
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PLAY, READ, CATALOGUE = "actions:write", "scores:read", "catalogue:write"
BOARD = API + "/leaderboards/{board:[a-z0-9_-]{1,64}}"

ROUTES = (
    Route("POST", f"{API}/auth/register", accounts.register, PUBLIC, status=201),
    Route("POST", f"{API}/auth/login", accounts.login, PUBLIC),
    Route("POST", f"{API}/auth/refresh", accounts.refresh, PUBLIC),
    Route("GET", "/.well-known/jwks.json", accounts.jwks, PUBLIC, counted=False),
    Route("GET", f"{API}/actions/types", actions.types, PUBLIC),
    Route("POST", f"{API}/actions/request", actions.issue, PLAY, status=201, policy=ACTIONS),
    Route("POST", f"{API}/actions/token", actions.issue, PLAY, status=201, policy=ACTIONS),
    Route("POST", f"{API}/actions/complete", actions.complete, PLAY, policy=actions.redemption),
    Route("GET", f"{API}/actions/{{action_id:{ID}}}", actions.state, PLAY),
    Route("POST", f"{API}/scores/update", scores.update, PLAY, policy=SCORES),
    Route("POST", f"{API}/scores/increment", scores.increment, PLAY, policy=SCORES),
    Route("GET", f"{API}/me/scores/{{action_id:{ID}}}", scores.receipt, READ),
    Route("GET", f"{API}/leaderboard", boards.main, PUBLIC),
    Route("GET", f"{API}/leaderboards", boards.boards, PUBLIC),
    Route("GET", BOARD, boards.top, PUBLIC),
    Route("GET", f"{BOARD}/players/me", boards.own_place, READ),
    Route("GET", f"{BOARD}/players/{{user_id:{ID}}}", boards.place, PUBLIC),
    Route("POST", f"{BOARD}/ranks", boards.ranks, PUBLIC),
    Route("GET", f"{API}/admin/action-types", actions.types, CATALOGUE),
    Route("POST", f"{API}/admin/action-types", admin.create_type, CATALOGUE, status=201),
    Route("GET", "/ws/leaderboard", sockets.leaderboard, PUBLIC, budget_s=None),
    Route("GET", "/", assets.page, PUBLIC),
    Route("GET", "/static/{name:[A-Za-z0-9._-]{1,64}}", assets.file, PUBLIC),
    Route("GET", "/health", probes.health, PUBLIC, counted=False),
    Route("GET", "/livez", probes.livez, PUBLIC, counted=False),
    Route("GET", "/readyz", probes.readyz, PUBLIC, counted=False),
)


def add(app: web.Application) -> None:
    """Adds every route to `app`."""
    for route in ROUTES:
        app.router.add_route(route.method, route.path, Endpoint(route).answer)
