"""Plays, proves and watches on a Live Scoreboard."""

from scoreboard_client.client import Client
from scoreboard_client.live import Board, Live, Personal, watch
from scoreboard_client.model import Action, ApiError, Award
from scoreboard_client.signing import checksum, client_signature, evidence_hash

__all__ = [
    "Action",
    "ApiError",
    "Award",
    "Board",
    "Client",
    "Live",
    "Personal",
    "checksum",
    "client_signature",
    "evidence_hash",
    "watch",
]
