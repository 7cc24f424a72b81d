"""The architecture, read from the source: what each rule accepts here and refuses elsewhere."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from protos.arrows import CALLERS, CATCH_UPS
from tests import boundaries

ROOT = Path(__file__).parent.parent
SERVICE = dict.fromkeys(
    [*boundaries.REQUIRED_FILES, "tests/test_service.py", "migrations/0001_start.sql"], ""
)

Rule = Callable[[Path], list[str]]
Plant = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Writes a source tree (path -> text) and returns its root."""

    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "rule",
    [
        boundaries.foreign_imports,
        boundaries.imports_back,
        boundaries.crowded_folders,
        boundaries.rooms_without_a_word,
        boundaries.strange_entrances,
        boundaries.sql_outside_stores,
        boundaries.unlocked_imports,
        boundaries.foreign_sql,
        boundaries.missing_files,
        boundaries.domain_words,
        boundaries.private_imports,
        boundaries.secrets_compared_by_equality,
        boundaries.vague_names,
    ],
    ids=lambda rule: str(rule.__name__),
)
def test_this_tree_keeps(rule: Rule) -> None:
    assert rule(ROOT) == []


def test_units_call_only_along_the_arrows_and_no_arrow_points_back() -> None:
    assert boundaries.undrawn_calls(ROOT, CALLERS) == []
    paths = {
        unit: {name: who for name, who in methods.items() if (unit, name) not in CATCH_UPS}
        for unit, methods in CALLERS.items()
    }
    assert boundaries.cycles(paths) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("services/scores/service.py", "import services.actions.store"),
        ("services/scores/service.py", "from services import actions"),
        ("services/scores/service.py", "from services.actions.store import ActionStore"),
        ("services/scores/service.py", "from ..actions import store"),
        ("services/scores/tests/test_award.py", "from services.fraud import store"),
        ("services/scores/service.py", "def late():\n    from gateway import routes"),
        ("services/scores/service.py", "import importlib\nimportlib.import_module('gateway.hub')"),
        ("services/scores/service.py", "from importlib import resources\nresources.files('local')"),
        ("services/scores/service.py", "import scoreboard_client"),
        ("gateway/__main__.py", "from services.scores import store"),
        ("gateway/__main__.py", "from local import servers"),
        ("chassis/server.py", "from protos import scores_pb2"),
        ("chassis/server.py", "from protos import *"),
        ("chassis/server.py", "import services.auth"),
        ("clients/python/scoreboard_client/api.py", "from chassis import clock"),
        ("local/servers.py", "from services.scores import store"),
        ("bench/stack.py", "from services.scores import settings"),
        ("protos/arrows.py", "import chassis"),
    ],
)
def test_an_import_of_another_unit_is_refused(path: str, source: str, plant: Plant) -> None:
    violations = boundaries.foreign_imports(plant({path: source}))

    assert len(violations) == 1
    assert violations[0].startswith(f"{path}:{len(source.splitlines())}: ")


def test_a_unit_may_import_itself_the_chassis_and_the_contracts(plant: Plant) -> None:
    own = "import asyncio, grpc\nfrom chassis import clock\nfrom protos import scores_pb2\n"
    tree = plant(
        {
            "services/scores/service.py": f"{own}from services.scores import store\n",
            "services/scores/store.py": "from . import settings\n",
            "gateway/routes.py": f"{own}from gateway.live import attach\n",
            "chassis/errors.py": "from protos import failure_pb2\nfrom chassis.clock import now\n",
            "local/players.py": f"{own}import scoreboard_client\n",
            "bench/award.py": "from scoreboard_client import Player\n",
            "clients/python/scoreboard_client/api.py": "from scoreboard_client.live import feed\n",
            "tests/test_journey.py": "import gateway.routes, services.scores.store, local\n",
            "conftest.py": "from local import servers\n",
        }
    )

    assert boundaries.foreign_imports(tree) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("services/scores/boards/places.py", "from services.scores.awards import records"),
        ("services/scores/boards/places.py", "from services.scores.reads.live import LiveReads"),
        ("services/scores/reads/calls.py", "import services.scores.upkeep.auditor"),
        ("services/scores/awards/write.py", "from ..reads import store"),
        ("gateway/edge/middleware.py", "from gateway.api import scores"),
        ("gateway/live/handler.py", "from gateway.api.answers import Answer"),
        ("gateway/api/scores.py", "from gateway.pages import respond"),
        ("chassis/redis/lease.py", "from chassis.postgres import Database"),
        ("local/servers/launch.py", "from local.suite import units"),
    ],
)
def test_an_import_of_a_later_room_is_refused(path: str, source: str, plant: Plant) -> None:
    assert len(boundaries.imports_back(plant({path: source}))) == 1


def test_a_room_may_import_those_it_stands_on_and_the_unit_s_own_modules(plant: Plant) -> None:
    tree = plant(
        {
            "services/scores/upkeep/rebuild.py": "from services.scores.boards import keys\n"
            "from services.scores.upkeep import store\nfrom services.scores import settings\n",
            "services/scores/service.py": "from services.scores.upkeep import Upkeep\n",
            "gateway/api/scores.py": "from gateway.edge import body\nimport gateway.upstreams\n",
        }
    )

    assert boundaries.imports_back(tree) == []


def test_a_crowded_folder_is_refused_and_crowded_tests_are_not(plant: Plant) -> None:
    names = [f"m{number}.py" for number in range(16)]
    tree = plant({f"gateway/{folder}/{name}": "" for folder in ("api", "tests") for name in names})

    assert boundaries.crowded_folders(tree) == ["gateway/api: 16 modules, at most 15"]


def test_a_room_that_does_not_say_what_happens_there_is_refused(plant: Plant) -> None:
    doors = [f"{u.replace('.', '/')}/{r}" for u, rooms in boundaries.ROOMS.items() for r in rooms]
    tree = plant({f"{door}/__init__.py": '"""Does it."""\n' for door in doors})
    assert boundaries.rooms_without_a_word(tree) == []

    (tree / doors[0] / "__init__.py").write_text("import this\n")
    (tree / doors[1] / "__init__.py").unlink()

    assert len(boundaries.rooms_without_a_word(tree)) == 2


@pytest.mark.parametrize(
    "source",
    [
        "async def serve(settings): ...",
        "def main(settings): ...",
        "async def main(): ...",
        "async def main(settings): ...\n" + "\n" * 90,
    ],
)
def test_a_service_with_another_entrance_is_refused(source: str, plant: Plant) -> None:
    tree = plant({"services/auth/__main__.py": source})

    assert len(boundaries.strange_entrances(tree)) == 1


def test_sql_is_refused_outside_a_store(plant: Plant) -> None:
    query = "QUERY = 'SELECT total FROM scores.players'\n"
    tree = plant(
        {
            "services/scores/awards/publish.py": query,
            "services/scores/awards/store.py": query,
            "services/scores/periods/final_store.py": query,
            "services/scores/tests/test_award.py": query,
        }
    )

    assert boundaries.sql_outside_stores(tree) == [
        "services/scores/awards/publish.py:1: SQL belongs into a store"
    ]


def test_a_stub_without_an_arrow_is_refused(plant: Plant) -> None:
    tree = plant(
        {
            "services/auth/service.py": "from protos import scores_pb2_grpc\n",
            "services/scores/service.py": "from protos import actions_pb2_grpc, scores_pb2_grpc\n",
            "services/scores/tests/test_award.py": "from protos import auth_pb2_grpc\n",
        }
    )

    assert boundaries.undrawn_calls(tree, CALLERS) == [
        "services/auth/service.py:1: no arrow leads from auth to scores"
    ]


def test_arrows_that_lead_back_are_refused() -> None:
    table = {"a": {"Do": frozenset({"c"})}, "b": {"Do": frozenset({"a"})}}
    assert boundaries.cycles(table) == []

    assert len(boundaries.cycles({**table, "c": {"Do": frozenset({"b"})}})) == 3


def test_a_package_that_no_image_gets_is_refused(plant: Plant) -> None:
    source = "import json\nimport grpc\nimport psutil\nfrom pytest import fixture\n"
    tree = plant(
        {
            "requirements.lock": "grpcio==1.85.1 \\\n    --hash=sha256:00\n",
            "services/scores/service.py": source,
            "services/scores/tests/test_service.py": source,
            "chassis/testing.py": source,
            "local/servers.py": source,
        }
    )

    assert boundaries.unlocked_imports(tree) == [
        "services/scores/service.py:3: requirements.lock does not bring psutil",
        "services/scores/service.py:4: requirements.lock does not bring pytest",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM actions.types",
        "SELECT id FROM scores.ledger JOIN actions.types USING (id)",
        "SELECT id FROM scores.ledger, auth.users",
        "INSERT INTO fraud.events (id) VALUES ($1)",
        "UPDATE auth.users SET name = $1",
        'DELETE FROM "auth"."users"',
        "SELECT fraud.judge($1)",
        "CREATE INDEX ON actions.types (id)",
        "CREATE TABLE IF NOT EXISTS public.players ()",
        "ALTER SEQUENCE actions.seq RESTART",
        "CREATE FUNCTION actions.f() RETURNS int LANGUAGE sql RETURN 1",
        "SELECT 'actions.types'::regclass",
        "SET search_path TO actions",
        "GRANT USAGE ON SCHEMA actions TO scores",
        "select id from actions.types",
    ],
)
def test_sql_that_names_a_foreign_schema_is_refused(statement: str, plant: Plant) -> None:
    tree = plant(
        {
            "services/scores/store.py": f"class Store:\n    query = '''\n        {statement}'''\n",
            "services/scores/relay.py": f"def query(x):\n    return f'''{statement} {{x}}'''",
            "services/scores/migrations/0002_more.sql": f"-- A comment.\n\n{statement};\n",
        }
    )

    violations = boundaries.foreign_sql(tree)

    assert [violation.rpartition(": ")[0] for violation in violations] == [
        "services/scores/migrations/0002_more.sql:3",
        "services/scores/relay.py:2",
        "services/scores/store.py:3",
    ]


def test_sql_in_a_unit_without_a_schema_is_refused(plant: Plant) -> None:
    query = "QUERY = 'SELECT total FROM scores.players'"
    tree = plant({"gateway/top.py": query, "services/realtime/store.py": query})

    assert len(boundaries.foreign_sql(tree)) == 2


def test_a_service_names_its_own_schema_and_prose_names_what_it_likes(plant: Plant) -> None:
    tree = plant(
        {
            "services/scores/store.py": '"""Gets its awards from actions.Verify."""\n'
            "READ = 'SELECT p.total FROM scores.players AS p JOIN pg_catalog.pg_class ON true'\n"
            "KEY = '{auth}:changes'\nlog.info('refused from actions.verify')\n",
            "services/scores/migrations/0001_start.sql": "-- Never FROM actions.types.\n"
            "/* nor\n auth.users */ SET search_path = scores;",
        }
    )

    assert boundaries.foreign_sql(tree) == []


@pytest.mark.parametrize("name", [*boundaries.REQUIRED_FILES, "tests/test_service.py"])
def test_a_service_without_one_of_the_files_is_refused(name: str, plant: Plant) -> None:
    files = {f"services/scores/{file}": text for file, text in SERVICE.items() if file != name}

    assert len(boundaries.missing_files(plant(files))) == 1


def test_only_a_service_without_a_schema_goes_without_migrations(plant: Plant) -> None:
    files = [file for file in SERVICE if not file.startswith("migrations")]
    tree = plant({f"services/{unit}/{file}": "" for unit in ("auth", "realtime") for file in files})

    assert boundaries.missing_files(tree) == ["services/auth: has no migrations/*.sql"]


def test_a_service_that_the_architecture_does_not_name_is_refused(plant: Plant) -> None:
    tree = plant({f"services/mail/{file}": text for file, text in SERVICE.items()})

    assert boundaries.missing_files(tree) == ["services/mail: not a unit of the architecture"]


@pytest.mark.parametrize(
    "line",
    [
        "player_id = 1",
        "class ScoreStore: ...",
        "# Awards come in batches.",
        "x = 'the leaderboard'",
        "def check(token): ...",
    ],
)
def test_a_domain_word_in_the_chassis_is_refused(line: str, plant: Plant) -> None:
    violations = boundaries.domain_words(plant({"chassis/server.py": f"\n{line}\n"}))

    assert len(violations) == 1
    assert violations[0].startswith("chassis/server.py:2: ")


def test_plain_words_stay_possible_in_the_chassis(plant: Plant) -> None:
    lines = "secrets.token_urlsafe(16)\n# keyboard, scoreboard, tokenize, underscored\naction = 1\n"

    assert boundaries.domain_words(plant({"chassis/server.py": lines})) == []


@pytest.mark.parametrize(
    "path",
    [
        "chassis/utils.py",
        "services/scores/common/x.py",
        "gateway/helpers/x.py",
        "tests/base.py",
        "clients/js/manager.js",
    ],
)
def test_a_name_that_says_nothing_is_refused(path: str, plant: Plant) -> None:
    assert len(boundaries.vague_names(plant({path: ""}))) == 1


@pytest.mark.parametrize(
    ("source", "violations"),
    [
        ("from redis._parsers import BaseParser", 1),
        ("from redis.connection import _HiredisParser", 1),
        ("import redis._parsers", 1),
        ("from redis.connection import BaseParser  # type: ignore[attr-defined]", 1),
        ("from redis.exceptions import RedisError", 0),
        ("from __future__ import annotations", 0),
        ("from chassis.redis.link import _open", 0),
    ],
)
def test_the_inside_of_a_library_is_not_imported(
    source: str, violations: int, plant: Plant
) -> None:
    assert len(boundaries.private_imports(plant({"chassis/redis/link.py": source}))) == violations


def test_kustomize_keeps_its_base(plant: Plant) -> None:
    assert boundaries.vague_names(plant({"deploy/k8s/base/scores.yaml": ""})) == []


@pytest.mark.parametrize(
    "comparison",
    [
        "shown.sha256 == sha256",
        "_sha256(secret) == expected",
        "_checksum(attempt) != row.completed_checksum",
        "right.encode() == signature.encode()",
        "mac != self._mac(kid[0], kind, body)",
        "ours == closed.signature",
        "a < b == token_sha256",
        "found == hmac.new(key, text).hexdigest()",
    ],
)
def test_a_secret_compared_by_equality_is_refused(comparison: str, plant: Plant) -> None:
    tree = plant({"services/auth/clients.py": f"def right(a):\n    return {comparison}\n"})

    assert boundaries.secrets_compared_by_equality(tree) == [
        "services/auth/clients.py:2: a secret is compared by equality"
    ]


def test_a_secret_compared_in_constant_time_or_by_its_length_is_accepted(plant: Plant) -> None:
    source = """
hmac.compare_digest(shown.sha256, sha256)
len(token) == other
secret == ""
signature is None
row.user_id == item.user_id
"""
    tree = plant({"gateway/edge/etags.py": source, "gateway/tests/test_x.py": "token == other\n"})

    assert boundaries.secrets_compared_by_equality(tree) == []
