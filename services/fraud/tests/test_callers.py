"""Who may call fraud: the units that the arrows name, and nobody else."""

from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from chassis.errors import Failed
from chassis.testing import Certificates, served
from protos import fraud_pb2
from protos.arrows import CALLERS, callers
from protos.fraud_pb2_grpc import FraudServicer, add_FraudServicer_to_server

UNITS = ("auth", "actions", "scores", "fraud", "realtime", "gateway", "stranger")
METHODS = fraud_pb2.DESCRIPTOR.services_by_name["Fraud"].methods


@pytest.mark.parametrize("unit", UNITS)
async def test_a_unit_that_no_arrow_comes_from_is_refused_whatever_it_calls(
    unit: str, certificates: Certificates
) -> None:
    # The stubs' own servicer implements nothing: a call that was admitted crashes.
    register = partial(add_FraudServicer_to_server, FraudServicer())
    async with served(
        "fraud", register, certificates=certificates, callers=callers("fraud"), caller=unit
    ) as channel:
        codes = {method.name: await _failure(channel, method) for method in METHODS}
    assert codes == {
        method: "INTERNAL" if unit in admitted else "CALLER_REFUSED"
        for method, admitted in CALLERS["fraud"].items()
    }


async def _failure(channel: grpc.aio.Channel, method: MethodDescriptor) -> str:
    request = GetMessageClass(method.input_type)()
    call: Any = channel.unary_unary(
        f"/scoreboard.Fraud/{method.name}", request_serializer=type(request).SerializeToString
    )
    with pytest.raises(Failed) as caught:
        await call(request)
    return caught.value.code
