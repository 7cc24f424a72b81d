"""The rules that keep the units apart, each a function over a tree of source files.

A rule returns one line per violation (`path:line: what`), none when the tree is right.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

from tests.locks import canonical, pins

SERVICES = ("auth", "actions", "scores", "fraud", "realtime")
# Those that keep anything in Postgres; realtime lives in Redis alone.
SCHEMAS = frozenset({"auth", "actions", "scores", "fraud"})
OURS = frozenset(
    {"chassis", "protos", "services", "gateway", "clients", "scoreboard_client", "local", "bench"}
    | {"deploy", "tests", "conftest"}
)

REQUIRED_FILES = (
    "README.md",
    "__init__.py",
    "__main__.py",
    "settings.py",
    "service.py",
    "store.py",
)

# Words of the product. Words that plain software needs as well (action, event, time,
# limit, level, key) are not among them.
DOMAIN_WORDS = frozenset(
    "award board cheat cheater fraud game leaderboard ledger player points quest receipt "
    "sanction score token verdict".split()
)
# Names of the standard library and of gRPC's retry settings, not ours.
BORROWED_NAMES = re.compile(r"\b(token_(bytes|hex|urlsafe)|maxTokens|tokenRatio)\b")

# A unit's rooms, each standing on those before it: a room imports no later one.
ROOMS: Mapping[str, tuple[str, ...]] = {
    "services.scores": ("boards", "awards", "periods", "reads", "upkeep"),
    "gateway": ("edge", "api", "live", "pages"),
    "chassis": ("telemetry", "redis", "postgres", "rpc"),
    "local": ("servers", "suite"),
}
# Rooms side by side, of which neither imports the other.
APART = frozenset({("gateway", "api"), ("gateway", "live"), ("gateway", "pages")})
MODULES_MAX = 15  # in a folder
ENTRANCE_LINES_MAX = 90  # with its imports

# A name with one of these words holds what a caller must prove to have, or proves it with.
SECRET_WORDS = frozenset("checksum hexdigest mac password secret sha256 signature token".split())

VAGUE_NAMES = frozenset("base common helper helpers manager managers misc util utils".split())

_LOADERS = frozenset({"import_module", "__import__", "find_spec", "files", "run_module"})

_SQL_WORDS = "SELECT|INSERT|UPDATE|DELETE|FROM|JOIN|CREATE|ALTER|DROP|TRUNCATE|LOCK|GRANT|CALL|SET"
_LOOKS_LIKE_SQL = re.compile(rf"\b({_SQL_WORDS})\b|^\s*(?i:{_SQL_WORDS}|WITH)\s+[\w*(]")
_STATEMENT = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s[\s\S]*\b(FROM|SET|VALUES|WHERE)\b"
)
_COMPARES = re.compile(r"[=!]=")
_SQL_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_FOREIGN_SCHEMA = re.compile(
    r'(?<![\w.$:{])"?(?P<dotted>auth|actions|scores|fraud|realtime|gateway|public)"?\s*\.\s*["a-z_]'
    r"|\bsearch_path\s*(?:=|\bTO\b)\s*(?P<path>\w+)"
    r'|\bSCHEMA\s+(?:IF\s+NOT\s+EXISTS\s+)?"?(?P<named>auth|actions|scores|fraud|public)\b',
    re.IGNORECASE,
)


def foreign_imports(root: Path) -> list[str]:
    """Imports of another unit. A unit imports itself, `chassis` and `protos`."""
    return [
        f"{place}: {module} is not {unit}'s to import"
        for unit, place, module in _imports(root)
        if module.partition(".")[0] in OURS and not _may_import(unit, module)
    ]


def imports_back(root: Path) -> list[str]:
    """Imports of a room by one that it stands on, or by one beside it."""
    violations = []
    for unit, place, module in _imports(root):
        rooms = ROOMS.get(unit)
        if rooms is None or not module.startswith(f"{unit}."):
            continue
        here = Path(place).relative_to(unit.replace(".", "/")).parts[0]
        there = module.removeprefix(f"{unit}.").split(".")[0]
        if here not in rooms or there not in rooms:
            continue
        beside = here != there and {(unit, here), (unit, there)} <= APART
        if beside or rooms.index(there) > rooms.index(here):
            violations.append(f"{place}: {here} does not stand on {there}")
    return violations


def crowded_folders(root: Path) -> list[str]:
    """Folders outside tests with more modules than one reads at a glance."""
    counts: dict[str, int] = {}
    for path in _our_files(root):
        folder = path.parent.relative_to(root)
        if "tests" not in folder.parts:
            counts[folder.as_posix()] = counts.get(folder.as_posix(), 0) + 1
    return [
        f"{folder}: {count} modules, at most {MODULES_MAX}"
        for folder, count in sorted(counts.items())
        if count > MODULES_MAX
    ]


def rooms_without_a_word(root: Path) -> list[str]:
    """Rooms whose `__init__.py` does not open with what happens there."""
    doors = [
        root / unit.replace(".", "/") / room for unit, rooms in ROOMS.items() for room in rooms
    ]
    return [
        f"{door.relative_to(root).as_posix()}: says nothing about what happens here"
        for door in doors
        if not (door / "__init__.py").is_file()
        or not ast.get_docstring(ast.parse((door / "__init__.py").read_text()))
    ]


def strange_entrances(root: Path) -> list[str]:
    """Services whose `__main__.py` is not one screen with one `main` that takes the settings."""
    violations = []
    for path in sorted((root / "services").glob("*/__main__.py")):
        text = path.read_text()
        mains = [
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.AsyncFunctionDef)
            and node.name == "main"
            and [argument.arg for argument in node.args.args] == ["settings"]
        ]
        if len(mains) != 1 or len(text.splitlines()) > ENTRANCE_LINES_MAX:
            violations.append(
                f"{path.relative_to(root).as_posix()}: is not the entrance of a service"
            )
    return violations


def sql_outside_stores(root: Path) -> list[str]:
    """SQL of a service that stands in another file than a store."""
    return [
        f"{path.relative_to(root).as_posix()}:{line}: SQL belongs into a store"
        for folder in _folders(root / "services")
        for path in _python_files(folder)
        if "tests" not in path.parts and not path.stem.endswith("store")
        for line, text in _strings(path.read_text())
        if _STATEMENT.search(text)
    ]


def undrawn_calls(root: Path, callers: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    """Stubs of a unit that the table of arrows does not let this unit call."""
    violations = []
    for unit, place, module in _imports(root):
        stub = re.match(r"protos\.(\w+)_pb2_grpc\b", module)
        caller = unit.removeprefix("services.")
        if stub is None or unit not in _deployed_units() or "/tests/" in place:
            continue
        drawn = frozenset[str]().union(*callers.get(stub[1], {}).values())
        if caller != stub[1] and caller not in drawn:
            violations.append(f"{place}: no arrow leads from {caller} to {stub[1]}")
    return violations


def cycles(callers: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    """Arrows that point back: units that call, by any way round, a unit that calls them."""
    calls: dict[str, set[str]] = {}
    for callee, methods in callers.items():
        for caller in frozenset[str]().union(*methods.values()):
            calls.setdefault(caller, set()).add(callee)

    def reach(unit: str, seen: set[str]) -> set[str]:
        for callee in calls.get(unit, ()):
            if callee not in seen:
                seen.add(callee)
                reach(callee, seen)
        return seen

    return [f"{unit} calls itself by way of others" for unit in calls if unit in reach(unit, set())]


def unlocked_imports(root: Path) -> list[str]:
    """Imports, in what an image holds, of packages that `requirements.lock` does not bring."""
    locked = set(pins(root / "requirements.lock"))
    homes = packages_distributions()
    violations = []
    for unit, place, module in _imports(root):
        top = module.partition(".")[0]
        if (
            unit not in _deployed_units()
            or "/tests/" in place
            or place.startswith(("chassis/testing.py", "deploy/monitoring/"))
            or top in OURS | sys.stdlib_module_names
        ):
            continue
        if not locked & {canonical(name) for name in homes.get(top, [])}:
            violations.append(f"{place}: requirements.lock does not bring {top}")
    return violations


def foreign_sql(root: Path) -> list[str]:
    """SQL in a service or the gateway that names a schema not its own."""
    violations = []
    for unit, folder in _stateful_units(root):
        for path in sorted(folder.rglob("*.sql")):
            # Comments are blanked, not cut, so that the lines keep their numbers.
            text = _SQL_COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), path.read_text())
            violations += _foreign_schemas(text, 1, unit=unit, path=path.relative_to(root))
        for path in _python_files(folder):
            for line, text in _strings(path.read_text()):
                if _LOOKS_LIKE_SQL.search(text):
                    violations += _foreign_schemas(
                        text, line, unit=unit, path=path.relative_to(root)
                    )
    return violations


def _there(folder: Path, file: str) -> bool:
    """The file is there; a service with rooms has its stores in these."""
    return (folder / file).is_file() or (file == "store.py" and any(folder.glob("*/store.py")))


def missing_files(root: Path) -> list[str]:
    """Files that every service has and one lacks; and services outside the architecture."""
    violations = []
    for folder in _folders(root / "services"):
        name = f"services/{folder.name}"
        if folder.name not in SERVICES:
            violations.append(f"{name}: not a unit of the architecture")
        violations += [
            f"{name}: has no {file}" for file in REQUIRED_FILES if not _there(folder, file)
        ]
        if not list((folder / "tests").glob("test_*.py")):
            violations.append(f"{name}: has no tests/test_*.py")
        if folder.name in SCHEMAS and not list((folder / "migrations").glob("*.sql")):
            violations.append(f"{name}: has no migrations/*.sql")
    return violations


def domain_words(root: Path) -> list[str]:
    """Words of the product in the chassis: in names, comments, strings and prose."""
    violations = []
    for path in sorted((root / "chassis").rglob("*")):
        if path.suffix not in {".py", ".md", ".lua", ".sql"}:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            plain = BORROWED_NAMES.sub("", line)
            words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", plain)}
            found = {word for word in words if {word, word.removesuffix("s")} & DOMAIN_WORDS}
            violations += [
                f"{path.relative_to(root)}:{number}: the chassis knows no {word}"
                for word in sorted(found)
            ]
    return violations


def private_imports(root: Path) -> list[str]:
    """Imports of a library's inside: names with an underscore, and names it does not export."""
    violations = []
    for path in _our_files(root):
        text = path.read_text()
        lines = text.splitlines()
        for node in _importing(text):
            names = [name.split(".") for name in _imported(node, package=("",))]
            inside = any(
                part.startswith("_") and not part.endswith("__")
                for first, *parts in names
                if first not in OURS
                for part in (first, *parts)
            )
            if isinstance(node, ast.Import | ast.ImportFrom):
                statement = lines[node.lineno - 1 : node.end_lineno]
                inside = inside or any("ignore[attr-defined]" in line for line in statement)
            if inside:
                place = f"{path.relative_to(root).as_posix()}:{node.lineno}"
                violations.append(f"{place}: imports the inside of a library")
    return violations


def secrets_compared_by_equality(root: Path) -> list[str]:
    """`==` and `!=` over what must be compared in constant time, by `hmac.compare_digest`.

    A fixed value, a length and a count give nothing of a secret to who measures the time.
    """
    violations = []
    for path in _our_files(root):
        place = path.relative_to(root)
        if place.parts[0] not in ("chassis", "services", "gateway") or "tests" in place.parts:
            continue
        text = path.read_text()
        if not _COMPARES.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            for (one, other), by in zip(pairwise(sides), node.ops, strict=True):
                if isinstance(by, ast.Eq | ast.NotEq) and _secret(one, other):
                    line = f"{place.as_posix()}:{node.lineno}"
                    violations.append(f"{line}: a secret is compared by equality")
    return violations


def vague_names(root: Path) -> list[str]:
    """Folders and modules whose name does not say what they hold."""
    violations = []
    for unit in sorted(OURS):
        for path in sorted((root / unit).rglob("*")):
            named = path.is_dir() or path.suffix in {".py", ".js", ".ts"}
            # `base` is kustomize's own word.
            if named and path.stem in VAGUE_NAMES and not {"node_modules", "k8s"} & set(path.parts):
                violations.append(f"{path.relative_to(root)}: says nothing about what it holds")
    return violations


def _secret(*sides: ast.expr) -> bool:
    """Whether one side's name says that it is secret, and no side is a fixed value."""
    if any(isinstance(side, ast.Constant) for side in sides):
        return False
    names: set[str] = set()
    waiting: list[ast.AST] = list(sides)
    while waiting:
        match waiting.pop():
            case ast.Call(func=ast.Name(id="len" | "isinstance" | "type")):
                pass
            case node:
                waiting += ast.iter_child_nodes(node)
                names.add(getattr(node, "attr", "") or getattr(node, "id", ""))
    return any(SECRET_WORDS & set(name.lower().split("_")) for name in names)


def _may_import(unit: str, module: str) -> bool:
    if unit in {"tests", "conftest"}:
        return True
    allowed = {
        "chassis": ("chassis", "protos.failure_pb2"),
        "protos": ("protos",),
        # A client is what others install: it stands on its own.
        "clients": ("scoreboard_client", "clients"),
        # It prepares every unit's start, and so has to know what each reads.
        "deploy": (
            *("deploy", "chassis", "protos", "gateway.settings"),
            *(f"services.{name}.settings" for name in SERVICES),
        ),
        "local": ("local", "deploy", "chassis", "protos", "scoreboard_client"),
        "bench": ("bench", "chassis", "protos", "scoreboard_client"),
    }.get(unit, (unit, "chassis", "protos"))
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def _deployed_units() -> set[str]:
    return {"chassis", "protos", "deploy", "gateway", *(f"services.{name}" for name in SERVICES)}


def _imports(root: Path) -> Iterator[tuple[str, str, str]]:
    """Unit, place and module of every import of ours, wherever in a file it stands."""
    for path in _our_files(root):
        parts = path.relative_to(root).with_suffix("").parts
        unit = f"services.{parts[1]}" if parts[0] == "services" and len(parts) > 2 else parts[0]
        for node in _importing(path.read_text()):
            for module in _imported(node, package=parts[:-1]):
                place = f"{path.relative_to(root).as_posix()}:{node.lineno}"
                yield unit, place, module


@cache  # several rules read the same files
def _importing(text: str) -> list[ast.Import | ast.ImportFrom | ast.Call]:
    """The imports of a source text, and the calls that may be imports."""
    return [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        and _imported(node, package=("",))
    ]


def _imported(node: ast.AST, *, package: tuple[str, ...]) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            return [f"{module}.{alias.name}" for alias in node.names]
        case ast.Call(
            func=ast.Name(id=name) | ast.Attribute(attr=name),
            args=[ast.Constant(value=str(module)), *_],
        ) if name in _LOADERS:
            return [module]
    return []


def _stateful_units(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in [*_folders(root / "services"), root / "gateway", root / "chassis"]:
        yield folder.name, folder


def _foreign_schemas(text: str, line: int, *, unit: str, path: Path) -> list[str]:
    violations = []
    for found in _FOREIGN_SCHEMA.finditer(text):
        schema = (found["dotted"] or found["path"] or found["named"]).lower()
        if schema not in {unit} & SCHEMAS and schema not in {"pg_catalog", "pg_temp"}:
            at = line + text.count("\n", 0, found.start())
            violations.append(f"{path.as_posix()}:{at}: {unit} has no business in schema {schema}")
    return violations


@cache
def _strings(source: str) -> list[tuple[int, str]]:
    """Line and text of every string that is not a docstring; an f-string counts as one."""
    found, passed = list[tuple[int, str]](), set[ast.expr]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            passed.update(part for part in node.values if isinstance(part, ast.Constant))
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values
            ]
            found.append((node.lineno, "".join(parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed:
            found.append((node.lineno, node.value))
    return found


def _our_files(root: Path) -> Iterator[Path]:
    for unit in sorted(OURS):
        yield from _python_files(root / unit)
    yield from root.glob("conftest.py")


def _python_files(folder: Path) -> list[Path]:
    generated = re.compile(r"_pb2(_grpc)?\.py$")
    return [path for path in sorted(folder.rglob("*.py")) if not generated.search(path.name)]


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return [path for path in sorted(parent.iterdir()) if path.is_dir() and path.name[0] not in "._"]
