/* A little of everything that a database does, with checksums printed at the end. */
#include <stdio.h>
#include <stdlib.h>
#include "sqlite3.h"

static void run(sqlite3 *db, const char *sql) {
  char *error = 0;
  if (sqlite3_exec(db, sql, 0, 0, &error) != SQLITE_OK) {
    fprintf(stderr, "%s: %s\n", sql, error);
    exit(1);
  }
}

static void show(sqlite3 *db, const char *name, const char *sql) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, 0) != SQLITE_OK || sqlite3_step(statement) != SQLITE_ROW) {
    fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
    exit(1);
  }
  printf("%s %s\n", name, sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
}

int main(void) {
  sqlite3 *db;
  if (sqlite3_open(":memory:", &db) != SQLITE_OK) return 1;
  run(db, "CREATE TABLE a(id INTEGER PRIMARY KEY, k INT, t TEXT); CREATE TABLE b(k INT, v REAL);");
  run(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
          " INSERT INTO a SELECT i, (i * 7919) % 10007, printf('row %d of %x', i, i * 31) FROM n;");
  run(db, "INSERT INTO b SELECT k, k * 1.5 FROM a WHERE k % 3 = 0; CREATE INDEX ak ON a(k); CREATE INDEX bk ON b(k);");
  run(db, "UPDATE a SET t = upper(t) WHERE k BETWEEN 1000 AND 2000; DELETE FROM a WHERE k % 11 = 0;");
  show(db, "join", "SELECT count(*) || ' ' || sum(v) FROM a JOIN b USING (k)");
  show(db, "like", "SELECT count(*) FROM a WHERE t LIKE '%5%OF%F%'");
  show(db, "group", "SELECT max(c) FROM (SELECT count(*) AS c FROM a GROUP BY k % 97 ORDER BY c)");
  show(db, "window", "SELECT sum(r) FROM (SELECT rank() OVER (PARTITION BY k % 5 ORDER BY t) AS r FROM a)");
  run(db, "VACUUM; BEGIN; DELETE FROM b; ROLLBACK;");
  show(db, "rows", "SELECT count(*) FROM b");
  show(db, "integrity", "PRAGMA integrity_check");
  return sqlite3_close(db);
}
