import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists, isRunning, needSpace, run } from "./system.ts";

/** The Debian packages of MySQL and Redis, unpacked into a directory, C library included. */
export interface Unpacked {
  /** The loader and its library path: the words that start an unpacked program on any C library. */
  loader: string[];
  usr: string;
}

// `redis-server` is a link to `redis-check-rdb`: one program that goes by its name.
const WANTED = ["lib", "share/mysql", "sbin/mysqld", "bin/redis-server", "bin/redis-check-rdb"];

/**
 * MySQL and Redis from Debian's packages, unpacked under `dir` unless they already are. Nothing of the system is
 * touched and root is not needed: apt works in directories of its own, against an empty list of installed packages,
 * so that it fetches the whole closure. Undefined where this is not Debian.
 */
export async function unpackDebian(dir: string): Promise<Unpacked | undefined> {
  const root = join(dir, "root");
  if (!(await exists(root))) {
    const source = await debianSource();
    if (!source) return undefined;
    await unpack(dir, root, source);
  }
  return loaderOf(root);
}

async function unpack(dir: string, root: string, source: string) {
  console.log("Fetching MySQL and Redis from Debian's packages, once (65 MB) …");
  // Whoever is first renames its work into place; somebody else who unpacks meanwhile throws theirs away.
  const work = join(dir, `unpack-${process.pid}`);
  await removeAbandoned(dir);
  await needSpace(dir, 700, "Unpacking MySQL and Redis");
  await mkdir(join(work, "lists/partial"), { recursive: true });
  await mkdir(join(work, "cache/archives/partial"), { recursive: true });
  await writeFile(join(work, "status"), "");
  await writeFile(join(work, "sources.list"), `${source}\n`);
  await writeFile(join(work, "apt.conf"), aptConfig(work));
  try {
    await run("apt-get", ["-c", join(work, "apt.conf"), "-qq", "update"]);
    const packages = ["mysql-server-core", "redis-server"];
    await run("apt-get", ["-c", join(work, "apt.conf"), "-qq", "-y", "--download-only", "install", ...packages]);
    const archives = join(work, "cache/archives");
    for (const file of await readdir(archives)) {
      if (file.endsWith(".deb")) await run("dpkg-deb", ["-x", join(archives, file), join(work, "all")]);
    }
    // Only what the two servers need is kept: the closure also holds set-uid programs.
    for (const path of WANTED) {
      await mkdir(join(work, "root/usr", path, ".."), { recursive: true });
      await rename(join(work, "all/usr", path), join(work, "root/usr", path));
    }
    await rename(join(work, "root"), root).catch(async (error: unknown) => {
      if (!(await exists(root))) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** What an unpacking that was killed has left. */
async function removeAbandoned(dir: string) {
  for (const name of await readdir(dir).catch(() => [])) {
    const [, pid] = /^unpack-(\d+)$/.exec(name) ?? [];
    if (pid && !(await isRunning(Number(pid)))) await rm(join(dir, name), { recursive: true, force: true });
  }
}

/** The suite `sid`, because stable has no MySQL server; the mirror is the one that the machine itself uses. */
async function debianSource(): Promise<string | undefined> {
  const programs = await Promise.all(["/usr/bin/apt-get", "/usr/bin/dpkg-deb"].map(exists));
  const mirror = process.env.CHATPAY_DEBIAN_MIRROR ?? (await mirrorOfThisMachine());
  const keyrings = ["gpg", "pgp"].map((end) => `/usr/share/keyrings/debian-archive-keyring.${end}`);
  const known = await Promise.all(keyrings.map(exists));
  const keyring = keyrings.find((_, index) => known[index]);
  if (!programs.every(Boolean) || !mirror || !keyring) return undefined;
  return `deb [signed-by=${keyring}] ${mirror} sid main`;
}

async function mirrorOfThisMachine(): Promise<string | undefined> {
  const parts = await readdir("/etc/apt/sources.list.d").catch(() => []);
  const files = ["/etc/apt/sources.list", ...parts.map((name) => `/etc/apt/sources.list.d/${name}`)];
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  const uris = texts.flatMap((text) =>
    [...text.matchAll(/^(?:URIs:|deb\s+(?:\[[^\]]*\]\s+)?)\s*(\S+)/gm)].map((match) => match[1] ?? ""),
  );
  return uris.find((uri) => /\/debian(\/|\.list)?$/.test(uri) && !uri.includes("docker"));
}

const aptConfig = (work: string) => `
Dir::Etc::SourceList "${work}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Status "${work}/status";
Dir::State::Lists "${work}/lists";
Dir::Cache "${work}/cache";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Retries "3";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
`;

function loaderOf(root: string): Unpacked {
  const [triplet, loader] =
    process.arch === "arm64"
      ? ["aarch64-linux-gnu", "ld-linux-aarch64.so.1"]
      : ["x86_64-linux-gnu", "ld-linux-x86-64.so.2"];
  const libraries = join(root, "usr/lib", triplet);
  return { loader: [join(libraries, loader), "--library-path", libraries], usr: join(root, "usr") };
}
