import { join, resolve } from "node:path";
import { unpackDebian } from "./debian.ts";
import { run, which } from "./system.ts";

/** The words that start a server, in front of its own options. `dir` is the directory it may write to. */
export type Program = (dir: string) => string[];

export interface Programs {
  mysqld: Program;
  redis: Program;
}

const MYSQL_IMAGE = "mysql:9.7";
const REDIS_IMAGE = "redis:8";

/** Unpacked servers are shared by everything that runs in this checkout. */
const UNPACKED = resolve(import.meta.dirname, "../.local/services");

let found: Promise<Programs> | undefined;

/** Servers that can run here without touching the system: from the PATH, from Debian's packages, from Docker. */
export const findPrograms = () => (found ??= search());

async function search(): Promise<Programs> {
  const mysqld = await mysqldOnPath();
  const redis = await which("redis-server");
  if (mysqld && redis) return { mysqld: () => [mysqld, "--no-defaults"], redis: () => [redis] };

  const unpacked = process.platform === "linux" ? await unpackDebian(UNPACKED) : undefined;
  if (unpacked) {
    const { loader, usr } = unpacked;
    const messages = `--lc-messages-dir=${join(usr, "share/mysql")}`;
    const places = [`--basedir=${usr}`, messages, `--plugin-dir=${join(usr, "lib/mysql/plugin")}`];
    return {
      mysqld: () => [...loader, join(usr, "sbin/mysqld"), "--no-defaults", ...places],
      redis: () => [...loader, join(usr, "bin/redis-server")],
    };
  }

  if (process.platform === "linux" && (await dockerAnswers())) {
    return { mysqld: inDocker(MYSQL_IMAGE, "mysqld", "--no-defaults"), redis: inDocker(REDIS_IMAGE, "redis-server") };
  }
  throw new Error(NO_SERVERS);
}

/** MariaDB installs itself under the same name, and is another database. */
async function mysqldOnPath(): Promise<string | undefined> {
  const path = await which("mysqld");
  if (!path) return undefined;
  const version = await run(path, ["--no-defaults", "--version"]).catch(() => "");
  const [, major = 0, minor = 0] = (/Ver (\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  const isRecent = major > 8 || (major === 8 && minor >= 4);
  return isRecent && !/mariadb/i.test(version) ? path : undefined;
}

const dockerAnswers = () =>
  run("docker", ["version", "--format", "{{.Server.Version}}"]).then(
    () => true,
    () => false,
  );

/**
 * A container that shares the host's network and process ids, and runs as the person who started it: its port,
 * its files and its pid are then the same inside and outside, and nothing else has to know about Docker.
 */
function inDocker(image: string, ...command: string[]): Program {
  const user = `${process.getuid?.()}:${process.getgid?.()}`;
  return (dir) => {
    const shared = ["--network=host", "--pid=host", `--user=${user}`, `--volume=${dir}:${dir}`, `--workdir=${dir}`];
    const [entrypoint = "", ...args] = command;
    return ["docker", "run", "--rm", ...shared, `--entrypoint=${entrypoint}`, image, ...args];
  };
}

const NO_SERVERS = `ChatPay needs MySQL 8.4 or newer and Redis, and found no way to run them here. Any one of these will do:
  - set DATABASE_URL=mysql://user:password@host:3306/chatpay and REDIS_URL=redis://host:6379 to servers of yours
  - install both, so that mysqld and redis-server are on the PATH (macOS: brew install mysql redis)
  - on Debian nothing is needed but its package mirror in /etc/apt; elsewhere with apt and the package
    debian-archive-keyring, set CHATPAY_DEBIAN_MIRROR to the address of a Debian mirror
  - start a Docker engine (Linux), or use docker compose up, which runs all of ChatPay`;
