"""The whole API on one screen: each address, its handler, who may call, what it counts against.

A scope is what the access token must hold; `optional`: there may be no token at all. `query`
is all that may stand behind the `?`. `once` is what an Idempotency-Key does. No other address is
answered.
"""

from collections.abc import Callable

from gateway import pages
from gateway.api.accounts import Accounts
from gateway.api.actions import Actions, once, redemption
from gateway.api.admin import CHANGED, ActionTypes
from gateway.api.boards import Boards
from gateway.api.clients import Clients
from gateway.api.etags import Etags
from gateway.api.health import Health, Probes
from gateway.api.query import CURSOR, PERIOD, TOKEN, number
from gateway.api.reversals import Reversals
from gateway.api.rules import BoardRules
from gateway.api.scores import GRANTED, REDEEMED, Names, Scores
from gateway.edge.identity import Verifier
from gateway.edge.limits import RequestLimits
from gateway.edge.middleware import PUBLIC, Route
from gateway.edge.misfits import EXACT_MAX
from gateway.live.handler import LiveHandler
from gateway.upstreams import Upstreams

API = "/api/v1"
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PLAY, READ, AWARD, VOID = "actions:write", "scores:read", "scores:award", "scores:void"
CATALOGUE, BOARDS = "catalogue:write", "boards:write"
BOARD = API + "/leaderboards/{board:[a-z0-9_-]{1,64}}"
PAGE = (number("limit", low=1, high=100, default=10), PERIOD, CURSOR)
PLACE = (number("radius", low=0, high=50, default=5), PERIOD)
HISTORY = (number("limit", low=1, high=100, default=20), CURSOR)
SCORE = (number("score", low=-EXACT_MAX, high=EXACT_MAX), PERIOD)
TYPES, TYPE = f"{API}/admin/action-types", "{action_type:[A-Z0-9_]{1,40}}"


def routes(
    upstreams: Upstreams,
    *,
    verifier: Verifier,
    etags: Etags,
    names: Names,
    limits: RequestLimits,
    live: LiveHandler,
    health: Health,
    draining: Callable[[], bool],
    query_token: bool,
) -> tuple[Route, ...]:
    """Every route, with the handlers made of these. `query_token` lets an access token stand in
    the live channel's query."""
    accounts, clients = Accounts(upstreams.auth, verifier), Clients(upstreams.auth)
    scores = Scores(upstreams, names)
    actions, types = Actions(upstreams, scores), ActionTypes(upstreams.actions)
    boards, rules = Boards(upstreams, etags), BoardRules(upstreams)
    reversals, probes = Reversals(upstreams.scores), Probes(health, draining)
    plays, redeems = limits.actions, limits.scores
    handshake = (TOKEN,) if query_token else ()
    return (
        Route("POST", f"{API}/auth/register", accounts.register, PUBLIC, status=201),
        Route("POST", f"{API}/auth/login", accounts.login, PUBLIC),
        Route("POST", f"{API}/auth/refresh", accounts.refresh, PUBLIC),
        Route("POST", f"{API}/auth/token", clients.token, PUBLIC),
        Route("GET", "/.well-known/jwks.json", accounts.jwks, PUBLIC, counted=False),
        Route("GET", f"{API}/actions/types", actions.types, PUBLIC),
        Route("POST", f"{API}/actions/request", actions.issue, PLAY, status=201, policy=plays),
        Route("POST", f"{API}/actions/token", actions.issue, PLAY, status=201, policy=plays),
        Route(
            "POST",
            f"{API}/actions/complete",
            actions.complete,
            PLAY,
            policy=redemption(redeems),
            once=once,
        ),
        Route("GET", f"{API}/actions/{{action_id:{ID}}}", actions.state, PLAY),
        Route("DELETE", f"{API}/actions/{{action_id:{ID}}}", actions.give_up, PLAY, status=204),
        Route("POST", f"{API}/scores/update", scores.update, PLAY, policy=redeems, once=REDEEMED),
        Route(
            "POST", f"{API}/scores/increment", scores.increment, PLAY, policy=redeems, once=REDEEMED
        ),
        Route("POST", f"{API}/scores/award", scores.grant, AWARD, once=GRANTED),
        Route("GET", f"{API}/me/scores", scores.history, READ, query=HISTORY),
        Route("GET", f"{API}/me/scores/{{action_id:{ID}}}", scores.receipt, READ),
        Route("GET", f"{API}/leaderboard", boards.top, READ, optional=True, query=PAGE),
        Route("GET", f"{API}/leaderboards", rules.boards, READ, optional=True),
        Route("GET", BOARD, boards.top, READ, optional=True, query=PAGE),
        Route("GET", f"{BOARD}/players/me", boards.place, READ, query=PLACE),
        Route(
            "GET",
            f"{BOARD}/players/{{user_id:{ID}}}",
            boards.place,
            READ,
            optional=True,
            query=PLACE,
        ),
        Route("POST", f"{BOARD}/ranks", boards.ranks, READ, optional=True, query=(PERIOD,)),
        Route("GET", f"{BOARD}/would-be", boards.would_be, READ, optional=True, query=SCORE),
        Route("GET", TYPES, actions.types, CATALOGUE),
        Route("POST", TYPES, types.create_type, CATALOGUE, status=201, once=CHANGED),
        Route("PATCH", f"{TYPES}/{TYPE}", types.change_type, CATALOGUE, once=CHANGED),
        Route("GET", f"{API}/admin/boards", rules.every_board, BOARDS),
        Route("POST", f"{API}/admin/boards", rules.create, BOARDS, status=201, once=CHANGED),
        Route("POST", f"{API}/admin/scores/void", reversals.void, VOID, once=CHANGED),
        Route("POST", f"{API}/admin/scores/restore", reversals.restore, VOID, once=CHANGED),
        Route("GET", "/ws/leaderboard", live.leaderboard, PUBLIC, query=handshake, budget_s=None),
        # Others decorate the links to pages, and people must be able to follow them.
        Route("GET", "/", pages.file, PUBLIC, query=None),
        Route("GET", "/static/{name:[A-Za-z0-9._-]{1,64}}", pages.file, PUBLIC, query=None),
        Route("GET", "/health", probes.health, PUBLIC, counted=False),
        Route("GET", "/livez", probes.livez, PUBLIC, counted=False),
        Route("GET", "/readyz", probes.readyz, PUBLIC, counted=False),
    )
