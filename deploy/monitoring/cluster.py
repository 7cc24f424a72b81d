"""Alerts on processes and pods: scraped, restarted, scaled, certified."""

from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import NAMESPACE, Alert, Group, Severity
from deploy.units import UNITS

DAY_S = 86_400
CERTIFICATE_DAYS: dict[Severity, int] = {"warning": 14, "critical": 3}

# Of kube-state-metrics, not ours.
EXTERNAL = frozenset(
    {
        "kube_horizontalpodautoscaler_spec_max_replicas",
        "kube_horizontalpodautoscaler_status_current_replicas",
        "kube_pod_container_status_waiting_reason",
    }
)


def group(durations: Durations) -> Group:
    ours = f'{{namespace="{NAMESPACE}"}}'
    at_max = (
        f"kube_horizontalpodautoscaler_status_current_replicas{ours}"
        f" >= kube_horizontalpodautoscaler_spec_max_replicas{ours}"
    )
    crashing = (
        "max_over_time(kube_pod_container_status_waiting_reason"
        f'{{namespace="{NAMESPACE}", reason="CrashLoopBackOff"}}[{durations.window}]) > 0'
    )
    return Group(
        name="scoreboard-cluster",
        rules=(
            *(
                Alert(
                    name="UnitUnavailable",
                    expression=f'absent(up{{namespace="{NAMESPACE}", service="{unit}"}} == 1)',
                    lasts=durations.moment,
                    severity="critical",
                    summary=f"No process of {unit} can be scraped",
                    description="None runs, or none is reached on its operations port.",
                    labels={"service": unit},
                )
                for unit in UNITS
            ),
            Alert(
                name="TargetDown",
                expression=f"up{ours} == 0",
                lasts=durations.sustained,
                severity="warning",
                summary="{{ $labels.pod }} cannot be scraped",
                description="Its operations port does not serve /metrics.",
            ),
            *(
                Alert(
                    name="CertificateExpires",
                    expression="min by (service, certificate) (tls_certificate_expires_seconds)"
                    f" - time() < {days * DAY_S}",
                    lasts=durations.sustained,
                    severity=severity,
                    summary=f"A certificate of {{{{ $labels.service }}}} ends within {days} days",
                    description="The certificate {{ $labels.certificate }} ends in"
                    " {{ $value | humanizeDuration }}.",
                )
                for severity, days in CERTIFICATE_DAYS.items()
            ),
            Alert(
                name="AutoscalerAtMax",
                expression=_service_of(at_max, "horizontalpodautoscaler"),
                lasts=durations.lasting,
                severity="warning",
                summary="{{ $labels.service }} cannot be scaled out further",
                description="It has had its {{ $value }} replicas, the most allowed, for 15"
                " minutes.",
            ),
            Alert(
                name="PodCrashLooping",
                expression=_service_of(crashing, "container"),
                lasts=durations.sustained,
                severity="critical",
                summary="{{ $labels.pod }} ends again and again",
                description="The container {{ $labels.container }} waits in CrashLoopBackOff.",
            ),
        ),
    )


def _service_of(expression: str, label: str) -> str:
    """With the label `service` of what kube-state-metrics names by another label.

    Its own label `service` is that of kube-state-metrics.
    """
    return f'label_replace({expression}, "service", "$1", "{label}", "(.*)")'
