// The SQLite file of the reference server: the driver for the reference, and reads of the tables for
// scenarios.

import Database from "better-sqlite3";

export class SqliteFile {
  #database;

  /** Opens a file like the reference's own server, and creates it if it is missing. */
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

/** Reads a file that no server has open. */
export function inspect(path, look) {
  const file = new SqliteFile(path);
  try {
    return look(file);
  } finally {
    file.closeDb();
  }
}
