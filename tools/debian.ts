import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { exists, isRunning, needSpace, run } from "./system.ts";

/** Programs from Debian's packages, with all that they need, unpacked under a directory. */
interface Parcel {
  name: string;
  downloadMb: number;
  diskMb: number;
  packages: string[];
  /** A line of `sources.list`; undefined for what the machine itself installs from. */
  source: string | undefined;
  /** Archives of the closure that are left out. */
  skipped?: RegExp;
  /** Only what the programs need is kept: a closure may hold set-uid programs. */
  kept: string[];
  /** Files of ours beside it, by their names. */
  added?: Record<string, string>;
}

/** MySQL and Redis, C library included. */
export interface Unpacked {
  /** The loader and its library path: the words that start an unpacked program on any C library. */
  loader: string[];
  usr: string;
}

/** A browser without windows, and the environment in which it finds its libraries and fonts. */
export interface UnpackedBrowser {
  path: string;
  env: Record<string, string>;
}

const TRIPLET = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const LOADER = process.arch === "arm64" ? "ld-linux-aarch64.so.1" : "ld-linux-x86-64.so.2";

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
    await unpack(dir, root, {
      name: "MySQL and Redis",
      downloadMb: 65,
      diskMb: 700,
      packages: ["mysql-server-core", "redis-server"],
      source,
      // `redis-server` is a link to `redis-check-rdb`: one program that goes by its name.
      kept: ["lib", "share/mysql", "sbin/mysqld", "bin/redis-server", "bin/redis-check-rdb"].map(
        (path) => `usr/${path}`,
      ),
    });
  }
  const libraries = join(root, "usr/lib", TRIPLET);
  return { loader: [join(libraries, LOADER), "--library-path", libraries], usr: join(root, "usr") };
}

/**
 * Chromium without windows, and a Korean font, unpacked as the servers are. A browser starts itself anew for its parts, which
 * goes wrong with a loader in front. So it is one of the release that this machine runs, on the machine's own C library.
 * Undefined where this is not Debian.
 */
export async function unpackBrowser(dir: string): Promise<UnpackedBrowser | undefined> {
  const root = join(dir, "browser");
  if (!(await exists(root))) {
    if (!/^ID=debian$/m.test(await readFile("/etc/os-release", "utf8").catch(() => ""))) return undefined;
    await unpack(dir, root, {
      name: "a browser",
      downloadMb: 175,
      diskMb: 800,
      packages: ["chromium-headless-shell", "fonts-nanum"],
      source: undefined,
      skipped: /^libc6_/,
      kept: ["usr/lib", "lib", "usr/share/fonts"],
      added: { "fonts.conf": FONTS },
    });
  }
  const libraries = ["usr/lib", "lib"].map((path) => join(root, path, TRIPLET));
  return {
    path: join(root, "usr/lib/chromium/chromium-headless-shell"),
    env: {
      LD_LIBRARY_PATH: [...libraries, join(root, "usr/lib", TRIPLET, "pulseaudio")].join(":"),
      FONTCONFIG_FILE: join(root, "fonts.conf"),
    },
  };
}

/** Relative to the file itself, whatever the way to it is called. */
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
`;

async function unpack(dir: string, root: string, parcel: Parcel) {
  console.log(`Fetching ${parcel.name} from Debian's packages, once (${parcel.downloadMb} MB) …`);
  // Whoever is first renames its work into place; somebody else who unpacks meanwhile throws theirs away.
  const work = join(dir, `unpack-${process.pid}-${basename(root)}`);
  await removeAbandoned(dir);
  await needSpace(dir, parcel.diskMb, `Unpacking ${parcel.name}`);
  await mkdir(join(work, "lists/partial"), { recursive: true });
  await mkdir(join(work, "cache/archives/partial"), { recursive: true });
  await writeFile(join(work, "status"), "");
  if (parcel.source) await writeFile(join(work, "sources.list"), `${parcel.source}\n`);
  await writeFile(join(work, "apt.conf"), aptConfig(work, parcel.source !== undefined));
  try {
    const apt = (...words: string[]) => run("apt-get", ["-c", join(work, "apt.conf"), "-qq", ...words]);
    await apt("update");
    await apt("-y", "--download-only", "install", ...parcel.packages);
    const archives = join(work, "cache/archives");
    for (const file of await readdir(archives)) {
      if (!file.endsWith(".deb") || parcel.skipped?.test(file)) continue;
      await run("dpkg-deb", ["-x", join(archives, file), join(work, "all")]);
    }
    for (const path of parcel.kept) {
      if (!(await exists(join(work, "all", path)))) continue;
      await mkdir(join(work, "root", path, ".."), { recursive: true });
      await rename(join(work, "all", path), join(work, "root", path));
    }
    for (const [name, text] of Object.entries(parcel.added ?? {})) await writeFile(join(work, "root", name), text);
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
    const [, pid] = /^unpack-(\d+)-/.exec(name) ?? [];
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

const aptConfig = (work: string, hasSource: boolean) => `
${hasSource ? `Dir::Etc::SourceList "${work}/sources.list";\nDir::Etc::SourceParts "-";` : ""}
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
