"""Who may call what: every method of the contracts by every unit, over real certificates."""

import importlib
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from chassis import errors
from chassis.errors import Failed
from chassis.testing import Certificates, served
from protos.arrows import CALLERS, callers

UNITS = ("auth", "actions", "scores", "fraud", "realtime", "gateway", "stranger")


@pytest.mark.parametrize("caller", UNITS)
@pytest.mark.parametrize("unit", CALLERS)
async def test_only_the_units_that_an_arrow_comes_from_get_past_the_door(
    unit: str, caller: str, certificates: Certificates
) -> None:
    messages = importlib.import_module(f"protos.{unit}_pb2")
    stubs = importlib.import_module(f"protos.{unit}_pb2_grpc")
    name = unit.capitalize()
    # The stubs' own servicer implements nothing: a call that was admitted crashes.
    servicer = getattr(stubs, f"{name}Servicer")()
    register = partial(getattr(stubs, f"add_{name}Servicer_to_server"), servicer)
    methods = messages.DESCRIPTOR.services_by_name[name].methods

    async with served(
        unit, register, certificates=certificates, callers=callers(unit), caller=caller
    ) as channel:
        codes = {method.name: await _failure(channel, method) for method in methods}

    assert codes == {
        method: "INTERNAL" if caller in admitted else "CALLER_REFUSED"
        for method, admitted in CALLERS[unit].items()
    }


async def _failure(channel: grpc.aio.Channel, method: MethodDescriptor) -> str:
    request = GetMessageClass(method.input_type)()
    kind = "stream_stream" if method.client_streaming else "unary_unary"
    call: Any = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
    )
    try:
        if method.client_streaming:
            # Nothing is sent: a write into a call that ends would hide how it ended.
            async for _ in call():
                pass
        else:
            await call(request)
    except grpc.aio.AioRpcError as error:
        return errors.from_call(error).code
    except Failed as failed:
        return failed.code
    return "answered"
