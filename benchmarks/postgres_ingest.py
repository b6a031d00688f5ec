"""postgres_ingest: the same fleet reports into SQLite and into PostgreSQL, in turns and in one run.

The server is that of the tests, on the same disk and the same processors, with `fsync` and `synchronous_commit` on.
A host's 28 facts come in one batch, 32 batches at a time, as in `durable_ingest`. Nothing where there is no server.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from benchmarks.durable_ingest import Case, Post, at_once, posts
from benchmarks.fleet import control_plane, control_plane_on, host_names, prepare_database
from benchmarks.harness import Figure, Scale, ratio, scratch
from benchmarks.life import FACTS_PER_LIFE
from nixfleet_control_plane.history.rebuild import check_chain
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_postgres.filling import fill
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from tools.postgres.server import running_server, why_not

AT_LEAST: Final = 0.7


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the events a second of both stores, and their ratio."""
    if why_not() is not None:
        return
    case = Case(scale.pick(10_000, 4_000, 8), FACTS_PER_LIFE, None)
    sqlite, postgres = list[float](), list[float]()
    with scratch() as home, running_server(home) as server:
        for number in range(scale.rounds):
            with scratch() as directory:
                path, hosts = directory / "control-plane.sqlite", host_names(case.hosts)
                said = posts(hosts, case.batch)
                prepare_database(path, hosts)
                target = server.target(directory, f"round {number}")
                for rates, run in (
                    (postgres, partial(_into_postgres, path, target)),
                    (sqlite, partial(_into_sqlite, path)),
                ):
                    options = {"use_uvloop": True}  # as the control-plane process has it
                    rates.append(anyio.run(run, case, hosts, said, backend_options=options))
    into_postgres = Figure(
        "postgres_ingest", f"{case.name}, PostgreSQL", "events/s", tuple(postgres)
    )
    into_sqlite = Figure("postgres_ingest", f"{case.name}, SQLite", "events/s", tuple(sqlite))
    yield into_postgres
    yield into_sqlite
    yield ratio("PostgreSQL / SQLite", into_postgres, into_sqlite, at_least=AT_LEAST)


async def _into_postgres(
    path: Path,
    target: Target,
    case: Case,
    hosts: tuple[str, ...],
    said: dict[str, tuple[Post, ...]],
) -> float:
    with closing(open_for_reading(path)) as prepared:
        await fill(target, prepared, check_chain(prepared))
    async with control_plane_on(await open_store(target)) as service:
        return (await at_once(service, case, hosts, said)).per_second


async def _into_sqlite(
    path: Path, case: Case, hosts: tuple[str, ...], said: dict[str, tuple[Post, ...]]
) -> float:
    async with control_plane(path) as service:
        return (await at_once(service, case, hosts, said)).per_second
