// The SQLite file of the reference server: what the reference asks of a driver, and a look into
// the tables for scenarios that are about them.

import Database from "better-sqlite3";

export class SqliteFile {
  #database;

  /** Opens a file as the reference's own server does, and makes it if it is missing. */
  constructor(path) {
    this.#database = new Database(path);
    this.#database.pragma("journal_mode = WAL");
  }

  run(sql, params) {
    this.#database.prepare(sql).run(params);
  }

  query(sql, params = []) {
    return this.#database.prepare(sql).all(params);
  }

  get(sql, params = []) {
    return this.#database.prepare(sql).get(params);
  }

  transaction(callback) {
    return this.#database.transaction(callback)();
  }

  closeDb() {
    this.#database.close();
  }
}

/** Looks into a file that no server has open, and closes it again. */
export function inspect(path, look) {
  const file = new SqliteFile(path);
  try {
    return look(file);
  } finally {
    file.closeDb();
  }
}
