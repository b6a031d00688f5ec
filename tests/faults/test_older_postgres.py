"""The contract of a store, the questions and the upgrade on each PostgreSQL that the system has: Debian's is older than
the one of the other tests. With `make test-faults` alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.postgres.conftest import anyio_backend, proxy, target
from tests.postgres.test_contract import TestPostgresStore
from tests.postgres.test_queries import (
    eventful,
    queries,
    test_a_log_of_rows_of_any_length_is_read_in_pages,
    test_an_answer_has_what_was_committed_before_its_question,
    test_every_question_has_the_answer_of_the_sqlite_store,
)
from tests.postgres.test_retention import (
    exports,
    filled,
    lived,
    test_a_log_makes_its_partitions_as_it_grows,
    test_whole_months_that_nothing_needs_are_exported_and_their_partitions_dropped,
)
from tests.postgres.test_upgrade import (
    test_a_schema_of_any_version_opens_with_all_it_holds,
    test_an_upgraded_schema_has_the_shape_of_a_new_one,
)
from tools.postgres.server import Server, installed, running_server

__all__ = [
    "TestPostgresStore",
    "anyio_backend",
    "eventful",
    "exports",
    "filled",
    "lived",
    "proxy",
    "queries",
    "target",
    "test_a_log_makes_its_partitions_as_it_grows",
    "test_a_log_of_rows_of_any_length_is_read_in_pages",
    "test_a_schema_of_any_version_opens_with_all_it_holds",
    "test_an_answer_has_what_was_committed_before_its_question",
    "test_an_upgraded_schema_has_the_shape_of_a_new_one",
    "test_every_question_has_the_answer_of_the_sqlite_store",
    "test_whole_months_that_nothing_needs_are_exported_and_their_partitions_dropped",
]
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif("FAULTS_KILLS" not in os.environ, reason="with make test-faults alone"),
]
INSTALLED = tuple(installed())


@pytest.fixture(scope="module", params=INSTALLED or [None], ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each version that is installed."""
    if request.param is None:
        pytest.skip("this system has no PostgreSQL of its own")
    with (
        TemporaryDirectory(prefix="nixfleet-pg-") as directory,
        running_server(Path(directory), request.param) as running,
    ):
        yield running
