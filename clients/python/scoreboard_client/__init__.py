"""Plays, proves and watches on a Live Scoreboard; awards, for game servers."""

from scoreboard_client.client import Client
from scoreboard_client.game_server import GameServer, new_action_id
from scoreboard_client.live import Board, Live, Personal, watch
from scoreboard_client.model import Action, ApiError, Award, Limit
from scoreboard_client.signing import checksum, client_signature, evidence_hash

__all__ = [
    "Action",
    "ApiError",
    "Award",
    "Board",
    "Client",
    "GameServer",
    "Limit",
    "Live",
    "Personal",
    "checksum",
    "client_signature",
    "evidence_hash",
    "new_action_id",
    "watch",
]
