import { cpus, release, totalmem, type } from "node:os";
import mysql, { type RowDataPacket } from "mysql2/promise";
import type { Services } from "../tools/services.ts";
import { count } from "./report.ts";
import type { Settings } from "./settings.ts";

/** What the numbers were measured on. */
export async function machineText({ databaseUrl }: Services, settings: Settings): Promise<string> {
  const connection = await mysql.createConnection(databaseUrl);
  const [[server]] = await connection.query<RowDataPacket[]>(
    `select version() version, @@innodb_flush_log_at_trx_commit flush_log, @@sync_binlog sync_binlog, @@log_bin log_bin,
       @@innodb_doublewrite doublewrite, @@innodb_buffer_pool_size buffer_pool, @@innodb_redo_log_capacity redo_log`,
  );
  await connection.end();
  const gigabytes = (bytes: unknown) => `${(Number(bytes) / 2 ** 30).toFixed(0)} GiB`;
  const durability =
    `innodb_flush_log_at_trx_commit=${server?.flush_log}, sync_binlog=${server?.sync_binlog}, ` +
    `log_bin=${server?.log_bin}, innodb_doublewrite=${server?.doublewrite}`;
  const memory = `buffer pool ${gigabytes(server?.buffer_pool)}, redo log ${gigabytes(server?.redo_log)}`;
  const rounds = `${settings.rounds} rounds of ${settings.warmupMs / 1000} s warm-up and ${settings.measureMs / 1000} s`;
  const [kernel] = /^\S+ \d+\.\d+/.exec(`${type()} ${release()}`) ?? [];
  return [
    `- Machine: ${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${gigabytes(totalmem())}, ${kernel}`,
    `- Versions: MySQL ${server?.version}, Node ${process.versions.node}`,
    `- Durability: ${durability}`,
    `- MySQL: ${memory}`,
    `- Rounds: ${rounds}; ${count(settings.wallets)} wallets`,
    `- In flight: (c) and (d) ${count(settings.inFlight)}, (e) ${settings.sockets}, (f) ${settings.batchCalls} batches`,
  ].join("\n");
}
