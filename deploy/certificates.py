"""The units' certificates and the CA that issues them; in production an issuer may do this.

What there is and what is to be written are contents of folders, `{folder: {file: bytes}}`:
`ca`, and one for each unit with tls.crt, tls.key and ca.crt. So the same code serves
directories (`make`, `read`, `write`) and Secrets.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from chassis import clock
from deploy import secrets
from deploy.issuing import Pair, new_ca, new_certificate, pem

CA = "ca"

# All that there may be in a folder; others are no concern of ours.
FILES = ("tls.key", "tls.crt", "ca.crt", "next.key", "next.crt", "old.crt", "changed")

_RENEWED_BEFORE = timedelta(days=30)

Folder = Mapping[str, bytes]
Folders = Mapping[str, Folder]


class Refused(Exception):
    """The step is not to be taken now; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Authority:
    """The CA that issues, and the other one that is trusted while it is being replaced."""

    issuer: Pair
    next: Pair | None = None  # trusted already, to issue in the next step
    old: x509.Certificate | None = None  # trusted still, issues no more
    changed: datetime  # when files of units were last changed; kept while there are two CAs

    @property
    def trust(self) -> bytes:
        """What units are given as ca.crt."""
        others = [self.next.certificate if self.next else None, self.old]
        return b"".join(pem(one) for one in (self.issuer.certificate, *others) if one)

    @property
    def phase(self) -> str:
        """`begun`: a new CA is trusted; `issued`: it issues; `settled`: there is one CA."""
        return "begun" if self.next else "issued" if self.old else "settled"


def make(directory: Path, units: Sequence[str]) -> None:
    """Makes what is missing of `directory`/ca and `directory`/<unit>/{tls.crt,tls.key,ca.crt}.

    All PEM. A unit's certificate serves both ends of a connection and carries the URI
    spiffe://scoreboard/<unit> and the DNS name <unit>. What ends within 30 days, does
    not match its key, has another CA or cannot be read as PEM is made again. A CA is
    kept until it ends: replace it in `STEPS`. Raises OSError.
    """
    write(directory, renewed(read(directory, units), units))


def take(directory: Path, units: Sequence[str], step: str, *, read_within: timedelta) -> None:
    """Takes the step of that name in the directory: see `stepped`. Raises Refused, OSError."""
    held = read(directory, units)
    write(directory, stepped(held, units, STEPS[step], read_within=read_within))


def renewed(held: Folders, units: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """The new contents of the folders that have to change, to be written in this order."""
    authority = authority_of(held.get(CA, {}))
    if authority is None or authority.issuer.certificate.not_valid_after_utc <= clock.now():
        authority = Authority(issuer=new_ca(), changed=clock.now())
    return _changes(authority, held, units)


def authority_of(files: Folder) -> Authority | None:
    """What the folder of the CA holds; None: there is no CA that can be read."""
    issuer = Pair.read(files)
    if issuer is None:
        return None
    try:
        return Authority(
            issuer=issuer,
            next=Pair.read(files, "next"),
            old=x509.load_pem_x509_certificate(files["old.crt"]) if "old.crt" in files else None,
            changed=datetime.fromisoformat(files["changed"].decode())
            if "changed" in files
            else clock.now(),
        )
    except ValueError:
        return None


# ---- replacing the CA, in steps between which every unit trusts every other ----


def begin(authority: Authority) -> Authority:
    """A new CA that units trust beside the present one."""
    return replace(authority, next=new_ca())


def issue(authority: Authority) -> Authority:
    """The new CA issues the certificates of all units; the old one is still trusted.

    Raises Refused.
    """
    if authority.next is None:
        raise Refused("there is no new CA to issue them")
    return replace(authority, issuer=authority.next, next=None, old=authority.issuer.certificate)


def end(authority: Authority) -> Authority:
    """The old CA is no longer trusted."""
    return replace(authority, old=None)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a CA's replacement, and the phase in which it can be taken."""

    name: str
    phase: str
    take: Callable[[Authority], Authority]
    help: str


STEPS = {
    step.name: step
    for step in (
        Step(
            name="rotate-ca-begin",
            phase="settled",
            take=begin,
            help="first step of replacing the CA: make a new one that all units trust too",
        ),
        Step(
            name="rotate-ca-issue",
            phase="begun",
            take=issue,
            help="second step: the new CA issues the certificates of all units",
        ),
        Step(
            name="rotate-ca-end",
            phase="issued",
            take=end,
            help="third step: units trust the old CA no longer",
        ),
    )
}


def next_step(authority: Authority) -> str:
    """The name of the step that can be taken."""
    return next(step.name for step in STEPS.values() if step.phase == authority.phase)


def stepped(
    held: Folders, units: Iterable[str], step: Step, *, read_within: timedelta
) -> dict[str, dict[str, bytes]]:
    """As `renewed`, after a step of the CA's replacement.

    `read_within`: the time after which units have read what was written. Raises Refused
    where it is not this step's turn, where units may not have read what the last step
    wrote, and where that was not written whole.
    """
    authority = authority_of(held.get(CA, {}))
    if authority is None:
        raise Refused("there is no CA that can be read")
    if authority.phase != step.phase:
        raise Refused(f"{step.name}: it is the turn of {next_step(authority)}")
    if left_behind := [name for name in _changes(authority, held, units) if name != CA]:
        raise Refused(f"{step.name}: {', '.join(left_behind)} have no valid files: renew first")
    # Units that do not trust the new CA yet are only in the way of what comes after that.
    early = authority.changed + read_within - clock.now()
    if early > timedelta() and authority.phase != "settled":
        raise Refused(
            f"{step.name}: units may not have read the last change yet; wait"
            f" {early.total_seconds():.0f} s, or use --force"
        )
    return _changes(step.take(authority), held, units)


# ---- directories ----


def read(directory: Path, units: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """What the folders of the CA and of these units hold. Raises OSError."""
    return {
        name: {
            file: (directory / name / file).read_bytes()
            for file in FILES
            if (directory / name / file).exists()
        }
        for name in (CA, *units)
    }


def write(directory: Path, changes: Folders) -> None:
    """Gives those folders these contents, each file whole or not at all. Raises OSError."""
    for name, files in changes.items():
        folder = directory / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content in files.items():
            secrets.write(folder / file, content.decode())
        for file in set(FILES) - set(files):
            (folder / file).unlink(missing_ok=True)


# ---- what folders hold ----


def _changes(
    authority: Authority, held: Folders, units: Iterable[str]
) -> dict[str, dict[str, bytes]]:
    """What has to be written so that all is as `authority` has it; the CA last.

    So a step that is interrupted is begun again, and its time counts from its end.
    """
    changes = {}
    for unit in units:
        files = held.get(unit, {})
        wanted = _of_unit(unit, files, authority)
        if wanted != files:
            changes[unit] = wanted
    if changes:
        authority = replace(authority, changed=clock.now())
    wanted = _of_ca(authority)
    if wanted != held.get(CA):
        changes[CA] = wanted
    return changes


def _of_unit(unit: str, files: Folder, authority: Authority) -> dict[str, bytes]:
    pair = Pair.read(files)
    if pair is None or not _fits(pair, authority):
        pair = new_certificate(unit, authority.issuer)
    return {**pair.as_files(), "ca.crt": authority.trust}


def _of_ca(authority: Authority) -> dict[str, bytes]:
    files = authority.issuer.as_files()
    if authority.phase != "settled":
        files["changed"] = authority.changed.isoformat().encode()
    if authority.next:
        files |= authority.next.as_files("next")
    if authority.old:
        files["old.crt"] = pem(authority.old)
    return files


def _fits(unit: Pair, authority: Authority) -> bool:
    lasts = unit.certificate.not_valid_after_utc - clock.now() > _RENEWED_BEFORE
    return lasts and authority.issuer.issued(unit.certificate)
