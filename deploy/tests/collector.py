"""Rules of OpenTelemetry collectors' configuration, each returning a line per violation."""

from typing import Any
from urllib.parse import urlsplit

from deploy.tests.manifests import Manifest, of_kind

Config = dict[str, Any]


def wrong_pipelines(config: Config) -> list[str]:
    """Pipelines and the service name components that are not there, or leave some unused."""
    service = config["service"]
    used: dict[str, set[str]] = {"extensions": set(service["extensions"])}
    for pipeline in service["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(names)
    return [
        f"{kind}: {name} is {'used and not defined' if name in used[kind] else 'not used'}"
        for kind in used
        for name in sorted(used[kind] ^ set(config.get(kind, {})))
    ]


def wrong_traces(config: Config, manifests: list[Manifest]) -> list[str]:
    """Spans that reach no receiver in the form they are sent, or are judged in parts.

    Units send OTLP over gRPC, without TLS, to `OTLP_ENDPOINT`; collectors send to each other.
    """
    (settings,) = (
        each["data"]
        for name, each in of_kind(manifests, "ConfigMap").items()
        if name.startswith("scoreboard-config-")
    )
    by_units = urlsplit(settings["OTLP_ENDPOINT"])
    by_peers = config["exporters"]["loadbalancing"]
    resolver = by_peers["resolver"]["dns"]
    pipelines = config["service"]["pipelines"]
    spread, judge = pipelines["traces/spread"], pipelines["traces/judge"]
    right = {
        "units send by TLS": by_units.scheme == "http",
        "collectors send by TLS": by_peers["protocol"]["otlp"]["tls"]["insecure"],
        "units reach no receiver": _received(
            config, manifests, spread, f"{by_units.hostname}", f"{by_units.port}"
        ),
        "collectors reach no receiver": _received(
            config, manifests, judge, resolver["hostname"], resolver["port"]
        ),
        # All spans of a trace go to one collector first, which alone sees it whole.
        "traces are judged in parts": spread["exporters"] == ["loadbalancing"]
        and by_peers["routing_key"] == "traceID"
        and "tail_sampling" not in spread["processors"],
        "traces are not judged": "tail_sampling" in judge["processors"],
        "memory is not limited first": all(
            each["processors"][0] == "memory_limiter" for each in pipelines.values()
        ),
    }
    return [what for what, is_right in right.items() if not is_right]


def _received(
    config: Config, manifests: list[Manifest], pipeline: Config, host: str, port: str
) -> bool:
    """Whether a Service leads there to the collector, and a receiver of the pipeline listens."""
    name, _, rest = host.partition(".")
    service = of_kind(manifests, "Service").get(name)
    collector = of_kind(manifests, "Deployment")["otel-collector"]["spec"]["template"]["spec"]
    (container,) = collector["containers"]
    opened = {each["name"]: each["containerPort"] for each in container["ports"]}
    leads = service is not None and {
        str(opened[each["targetPort"]])
        for each in service["spec"]["ports"]
        if str(each["port"]) == port
    } == {port}
    listening = [
        config["receivers"][receiver]["protocols"]["grpc"]
        for receiver in pipeline["receivers"]
        if "grpc" in config["receivers"].get(receiver, {}).get("protocols", {})
    ]
    return (
        leads
        and rest.startswith("scoreboard.svc.cluster.local")
        and {"endpoint": f"0.0.0.0:{port}"} in listening
    )
