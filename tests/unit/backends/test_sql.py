"""Statements: every spelling of the parameters, what writes, what is durable, and how scripts are split."""

from pathlib import Path

import pytest

from holdfast.backends.sql import Statement, server_statement_of, split, statement_of, statements

TRICKY = """
select :name, :name::text, ':quoted', "quo:ted", '50%', $$ :body $$, $tag$ :body $tag$ -- :comment
from t /* :comment */ where a = :a and b[1:2] is null
"""


def test_parameters_are_found_outside_of_quotes_casts_and_comments_only() -> None:
    assert Statement("x", TRICKY).names == ("name", "a")


def test_numbered_spelling_repeats_a_number() -> None:
    assert Statement("x", "select :a, :b, :a::text").numbered == "select $1, $2, $1::text"
    assert Statement("x", "select :a, :b, :a").positional({"b": 2, "a": 1, "c": 3}) == [1, 2]


def test_percent_spelling_doubles_percent_signs() -> None:
    assert Statement("x", "select :a where b like '5%'").percent == "select %(a)s where b like '5%%'"


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("select 1", False),
        ("  -- update\n select 'update'", False),
        ("with a as (select 1) select * from a", False),
        ("with a as (delete from t returning x) select * from a", True),
        ("select * from t for update", True),
        ("select * from t for no key update skip locked", True),
        ("select pg_try_advisory_xact_lock(1)", True),
        ("select nextval('s')", True),
        ("insert into t values (1)", True),
        ("update t set a = 1", True),
        ("pragma wal_checkpoint", True),
        ("values (1)", False),
    ],
)
def test_writing_is_told_from_reading(sql: str, *, writes: bool) -> None:
    assert Statement("x", sql).writes is writes


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("select f()", True),
        ("select f (1) from t", True),
        ('select "count"()', True),
        ("select shop.count(x) from t", True),
        ("select * from t where id in (select g(1))", True),
        ("explain analyze select f()", True),
        ("select count(*), coalesce(max(x), 0) from t where a in (1, 2) and (b or c)", False),
        ("with a as (select 'f()') select * from a -- f()", False),
        ("select x from t where id = :id", False),
        ("update t set a = 1", True),
    ],
)
def test_on_a_server_a_function_of_the_users_may_write(sql: str, *, writes: bool) -> None:
    assert server_statement_of(sql).writes is writes


def test_named_statements_and_their_flags_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "sqlite.sql").write_text(
        "-- About this file.\n\n-- name: one\nselect f(:a);\n\n-- name: two\n-- durable\ninsert into t values (1);\n"
        "\n-- name: three\n-- writes\nselect g();\n"
    )
    read = statements(str(tmp_path / "sqlite.py"), "sqlite.sql")
    assert {name: (each.sql, each.durable, each.writes) for name, each in read.items()} == {
        "one": ("select f(:a)", False, False),
        "two": ("insert into t values (1)", True, True),
        "three": ("select g()", False, True),
    }
    assert {each.schema for each in read.values()} == {tmp_path}


def test_a_flag_before_the_first_name_counts_for_all(tmp_path: Path) -> None:
    (tmp_path / "sqlite.sql").write_text("-- durable\n-- name: one\nselect 1;\n-- name: two\nselect 2;\n")
    assert all(each.durable for each in statements(str(tmp_path / "x.py"), "sqlite.sql").values())


def test_the_users_own_sql_is_durable_and_never_migrates() -> None:
    assert statement_of("update t set a = :a").durable
    assert statement_of("update t set a = :a").schema is None


def test_scripts_are_split_at_semicolons_outside_of_quotes_and_comments() -> None:
    script = """
    -- First; of two.
    create table a (b text default ';');
    create function f() returns text language sql as $$ select 1; select 2; $$;
    -- Nothing follows.
    """
    first, second = split(script)
    assert first.startswith("-- First; of two.")
    assert first.endswith("default ';')")
    assert second.endswith("select 2; $$")
