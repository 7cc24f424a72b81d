"""What a call is refused with."""

from collections.abc import Awaitable
from typing import Any

import pytest

from scoreboard_client import ApiError


async def refusal(call: Awaitable[Any]) -> tuple[int, str]:
    """Status and code of the refusal that a call ends with."""
    with pytest.raises(ApiError) as refused:
        await call
    return refused.value.status, refused.value.code
