"""Where alerts go: critical ones to PagerDuty at once, warnings to Slack and by e-mail.

The same routes in two forms: the file of a plain Alertmanager, whose secrets are files, and the
AlertmanagerConfig of the operator, whose secrets are keys of a Secret.
"""

from typing import Any

from deploy.monitoring.durations import Durations

SECRETS = "/etc/alertmanager/secrets"
SECRET = "alertmanager-receivers"  # noqa: S105  The name of a Secret.
# An installation has its own: replaced in the files that are applied.
CHANNEL = "#scoreboard-alerts"
EMAIL_TO = "scoreboard-alerts@example.com"
EMAIL_FROM = "alertmanager@example.com"
SMARTHOST = "smtp.example.com:587"
_TITLE = "{{ .CommonLabels.alertname }}: {{ .CommonAnnotations.summary }}"
_TEXT = (
    "{{ range .Alerts }}{{ .Annotations.summary }}: {{ .Annotations.description }}"
    " Runbook: {{ .Annotations.runbook }}\n{{ end }}"
)
# A cause hides what follows from it in the same unit.
_INHIBITED_BY = ["namespace", "service"]


def plain(durations: Durations) -> dict[str, Any]:
    """The configuration file of an Alertmanager."""
    return {
        "route": {
            "receiver": "warning",
            "group_by": ["namespace", "service", "alertname"],
            "group_wait": str(durations.group_wait),
            "group_interval": str(durations.group_interval),
            "repeat_interval": str(durations.repeat_warning),
            "routes": [
                {
                    "receiver": "critical",
                    "matchers": ['severity="critical"'],
                    "repeat_interval": str(durations.repeat_critical),
                }
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="critical"'],
                "target_matchers": ['severity="warning"'],
                "equal": _INHIBITED_BY,
            }
        ],
        "receivers": [
            {
                "name": "critical",
                "pagerduty_configs": [
                    {
                        "routing_key_file": f"{SECRETS}/pagerduty_routing_key",
                        "description": _TITLE,
                        "severity": "critical",
                    }
                ],
            },
            {
                "name": "warning",
                "slack_configs": [
                    {
                        "api_url_file": f"{SECRETS}/slack_url",
                        "channel": CHANNEL,
                        "title": _TITLE,
                        "text": _TEXT,
                        "send_resolved": True,
                    }
                ],
                "email_configs": [
                    {
                        "to": EMAIL_TO,
                        "from": EMAIL_FROM,
                        "smarthost": SMARTHOST,
                        "auth_username": EMAIL_FROM,
                        "auth_password_file": f"{SECRETS}/smtp_password",
                        "send_resolved": True,
                    }
                ],
            },
        ],
    }


def resource(durations: Durations) -> dict[str, Any]:
    """The `spec` of an AlertmanagerConfig."""

    def secret(key: str) -> dict[str, str]:
        return {"name": SECRET, "key": key}

    def severity(value: str) -> list[dict[str, str]]:
        return [{"name": "severity", "value": value}]

    return {
        "route": {
            "receiver": "warning",
            "groupBy": ["namespace", "service", "alertname"],
            "groupWait": str(durations.group_wait),
            "groupInterval": str(durations.group_interval),
            "repeatInterval": str(durations.repeat_warning),
            "routes": [
                {
                    "receiver": "critical",
                    "matchers": severity("critical"),
                    "repeatInterval": str(durations.repeat_critical),
                }
            ],
        },
        "inhibitRules": [
            {
                "sourceMatch": severity("critical"),
                "targetMatch": severity("warning"),
                "equal": _INHIBITED_BY,
            }
        ],
        "receivers": [
            {
                "name": "critical",
                "pagerdutyConfigs": [
                    {
                        "routingKey": secret("pagerduty_routing_key"),
                        "description": _TITLE,
                        "severity": "critical",
                    }
                ],
            },
            {
                "name": "warning",
                "slackConfigs": [
                    {
                        "apiURL": secret("slack_url"),
                        "channel": CHANNEL,
                        "title": _TITLE,
                        "text": _TEXT,
                        "sendResolved": True,
                    }
                ],
                "emailConfigs": [
                    {
                        "to": EMAIL_TO,
                        "from": EMAIL_FROM,
                        "smarthost": SMARTHOST,
                        "authUsername": EMAIL_FROM,
                        "authPassword": secret("smtp_password"),
                        "sendResolved": True,
                    }
                ],
            },
        ],
    }
