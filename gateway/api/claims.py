"""The types of fields that several bodies share."""

from typing import Annotated

from msgspec import Meta

from gateway.edge.misfits import EXACT_MAX

# Longer than anything that is right; NUL is what a database cannot hold.
Name = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00]*$")]
UserId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Token = Annotated[str, Meta(max_length=2048)]
Signature = Annotated[str, Meta(max_length=256)]
Title = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00]*$")]
Small = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Exact = Annotated[int, Meta(ge=-EXACT_MAX, le=EXACT_MAX)]
