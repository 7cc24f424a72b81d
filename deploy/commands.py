"""An operator's commands on a directory of certificates: what there is, renewal, a new CA."""

import argparse
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from deploy.certificates import (
    CA,
    STEPS,
    Folders,
    authority_of,
    next_step,
    read,
    renewed,
    stepped,
    write,
)
from deploy.issuing import Pair

READ_WITHIN_S = 300.0


def run(arguments: Sequence[str], units: Sequence[str]) -> list[str]:
    """Runs a command on a directory and returns lines to print. Raises Refused, OSError."""
    given = _parser().parse_args(arguments)
    held = read(given.directory, units)
    changes: Folders = {}
    if given.command == "renew":
        changes = renewed(held, units)
    elif step := STEPS.get(given.command):
        within = timedelta(seconds=0 if given.force else given.read_within_s)
        changes = stepped(held, units, step, read_within=within)
    write(given.directory, changes)
    return [f"written: {name}" for name in changes] + _summary({**held, **changes}, units)


def _summary(held: Folders, units: Iterable[str]) -> list[str]:
    """Lines for an operator: the phase, the next step, and when each certificate ends."""
    authority = authority_of(held.get(CA, {}))
    if authority is None:
        return ["there is no CA that can be read"]
    lines = [f"the CA is {authority.phase}; the next step is {next_step(authority)}"]
    if authority.phase != "settled":
        lines.append(f"units' files were last changed at {authority.changed:%FT%TZ}")
    shown = {
        "ca": authority.issuer.certificate,
        "new ca": authority.next and authority.next.certificate,
        "old ca": authority.old,
    }
    for unit in units:
        pair = Pair.read(held.get(unit, {}))
        shown[unit] = pair and pair.certificate
        if pair is None:
            lines.append(f"{unit}: has no certificate that can be read")
    lines += [
        f"{name}: ends {one.not_valid_after_utc:%FT%TZ}" for name, one in shown.items() if one
    ]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy certificates",
        description="Certificates in a directory: `ca`, and a folder for each unit. Running units"
        " read what changes, within their TLS_CHECK_S.",
    )
    parser.add_argument(
        "--directory", type=Path, required=True, help="where they are; of make run: .data/tls"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("status", help="print when each certificate ends, and the next step")
    commands.add_parser(
        "renew", help="make what is missing, does not fit or ends within 30 days; else keep it"
    )
    for step in STEPS.values():
        taking = commands.add_parser(step.name, help=step.help, description=step.help)
        taking.add_argument(
            "--read-within-s",
            type=float,
            default=READ_WITHIN_S,
            help="refuse the step for so long after the last change, until units have read that"
            f" (default {READ_WITHIN_S:g}: a minute or two of the kubelet, and TLS_CHECK_S)",
        )
        taking.add_argument(
            "--force",
            action="store_true",
            help="do not wait; calls to a unit that has not read the last change may fail",
        )
    return parser
