"""SQL, and nothing but: functions that take a connection, or make a `Statement`. Typed values go in and come out; in
which order the columns stand is known here alone.

Which way a statement takes:

* the two grouped writers, and what is read under their locks: a `pipeline.Statement`, run with its neighbours in one
  round trip, its rows written with `many_rows`. Every payment passes through these several times;
* what is read or written many times a second, or by the thousand: psycopg, with the text of the statement written out
  or compiled once. It costs a third of the same statement through an engine;
* everything else: SQLAlchemy Core, on a connection of the engine. A step that runs once a second can afford it.

A row that is written or read whole is a NamedTuple whose fields are named as the columns are: it is the only list of
them. What stands between a column and a `Payment` is listed in `payments`, once a column.
"""
