"""The whole API on one screen: each address, who answers it, who may ask, what it counts against.

A scope is what the access token must hold; `optional`: there may be no token at all. `once`
says what an Idempotency-Key does. Nothing that is not listed here is answered.
"""

from gateway.api import accounts, actions, admin, boards, clients, probes, reversals, rules, scores
from gateway.api.admin import CHANGED
from gateway.api.scores import GRANTED, REDEEMED
from gateway.edge.limits import ACTIONS, SCORES
from gateway.edge.middleware import PUBLIC, Route
from gateway.live import sockets
from gateway.pages import assets

API = "/api/v1"
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PLAY, READ, AWARD, VOID = "actions:write", "scores:read", "scores:award", "scores:void"
CATALOGUE, BOARDS = "catalogue:write", "boards:write"
BOARD = API + "/leaderboards/{board:[a-z0-9_-]{1,64}}"
TYPES, TYPE = f"{API}/admin/action-types", "{action_type:[A-Z0-9_]{1,40}}"

ROUTES = (
    Route("POST", f"{API}/auth/register", accounts.register, PUBLIC, status=201),
    Route("POST", f"{API}/auth/login", accounts.login, PUBLIC),
    Route("POST", f"{API}/auth/refresh", accounts.refresh, PUBLIC),
    Route("POST", f"{API}/auth/token", clients.token, PUBLIC),
    Route("GET", "/.well-known/jwks.json", accounts.jwks, PUBLIC, counted=False),
    Route("GET", f"{API}/actions/types", actions.types, PUBLIC),
    Route("POST", f"{API}/actions/request", actions.issue, PLAY, status=201, policy=ACTIONS),
    Route("POST", f"{API}/actions/token", actions.issue, PLAY, status=201, policy=ACTIONS),
    Route(
        "POST",
        f"{API}/actions/complete",
        actions.complete,
        PLAY,
        policy=actions.redemption,
        once=actions.once,
    ),
    Route("GET", f"{API}/actions/{{action_id:{ID}}}", actions.state, PLAY),
    Route("POST", f"{API}/scores/update", scores.update, PLAY, policy=SCORES, once=REDEEMED),
    Route("POST", f"{API}/scores/increment", scores.increment, PLAY, policy=SCORES, once=REDEEMED),
    Route("POST", f"{API}/scores/award", scores.grant, AWARD, once=GRANTED),
    Route("GET", f"{API}/me/scores", scores.history, READ),
    Route("GET", f"{API}/me/scores/{{action_id:{ID}}}", scores.receipt, READ),
    Route("GET", f"{API}/leaderboard", boards.main, READ, optional=True),
    Route("GET", f"{API}/leaderboards", rules.boards, READ, optional=True),
    Route("GET", BOARD, boards.top, READ, optional=True),
    Route("GET", f"{BOARD}/players/me", boards.own_place, READ),
    Route("GET", f"{BOARD}/players/{{user_id:{ID}}}", boards.place, READ, optional=True),
    Route("POST", f"{BOARD}/ranks", boards.ranks, READ, optional=True),
    Route("GET", f"{BOARD}/would-be", boards.would_be, READ, optional=True),
    Route("GET", TYPES, actions.types, CATALOGUE),
    Route("POST", TYPES, admin.create_type, CATALOGUE, status=201, once=CHANGED),
    Route("PATCH", f"{TYPES}/{TYPE}", admin.change_type, CATALOGUE, once=CHANGED),
    Route("GET", f"{API}/admin/boards", rules.every_board, BOARDS),
    Route("POST", f"{API}/admin/boards", rules.create, BOARDS, status=201, once=CHANGED),
    Route("POST", f"{API}/admin/scores/void", reversals.void, VOID, once=CHANGED),
    Route("POST", f"{API}/admin/scores/restore", reversals.restore, VOID, once=CHANGED),
    Route("GET", "/ws/leaderboard", sockets.leaderboard, PUBLIC, budget_s=None),
    Route("GET", "/", assets.page, PUBLIC),
    Route("GET", "/static/{name:[A-Za-z0-9._-]{1,64}}", assets.file, PUBLIC),
    Route("GET", "/health", probes.health, PUBLIC, counted=False),
    Route("GET", "/livez", probes.livez, PUBLIC, counted=False),
    Route("GET", "/readyz", probes.readyz, PUBLIC, counted=False),
)
