import { execFile } from "node:child_process";
import { access, mkdir, open, readFile, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** What a program printed; the error of one that failed carries its last words. */
export async function run(program: string, args: string[]): Promise<string> {
  try {
    const { stdout } = await execute(program, args, { maxBuffer: 16 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    const { stderr = "", message } = error as { stderr?: string; message: string };
    throw new Error(`${program} failed: ${lastLines(stderr, 8) || message}${fullDisk(stderr)}`, { cause: error });
  }
}

export const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** Where a program is. Servers often live in directories that are not on a person's PATH. */
export async function which(program: string): Promise<string | undefined> {
  const more = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/opt/homebrew/opt/mysql/bin"];
  for (const directory of [...(process.env.PATH ?? "").split(delimiter), ...more]) {
    const path = join(directory, program);
    if (directory && (await exists(path))) return path;
  }
  return undefined;
}

/** Makes the directory, on a disk with room for what is about to be written there. */
export async function needSpace(dir: string, megabytes: number, purpose: string) {
  await mkdir(dir, { recursive: true });
  const { bavail, bsize } = await statfs(dir);
  const free = Math.floor((bavail * bsize) / 1024 / 1024);
  if (free < megabytes)
    throw new Error(`${purpose} needs ${megabytes} MB in ${dir}, and the disk has ${free} MB free.`);
}

/** A hint for a message, when what a program said tells of a full disk. */
export const fullDisk = (said: string) =>
  /no space left|disk (is )?full|errno:? 28\b/i.test(said) ? "\nThe disk is full: make room and start again." : "";

export const lastLines = (text: string, count: number) => text.trimEnd().split("\n").slice(-count).join("\n");

/** The end of a log file, from where it was when somebody started to look. */
export async function readFrom(path: string, start: number): Promise<string> {
  const file = await open(path).catch(() => undefined);
  if (!file) return "";
  try {
    const length = Math.max(0, (await file.stat()).size - start);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, start);
    return buffer.toString("utf8");
  } finally {
    await file.close();
  }
}

/** Whether a process runs. One that ended but that nobody has waited for does not. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return !/\) [ZX] /.test(stat);
}

/** Resolves to whether nobody listens on the port. */
export const isFree = (port: number) =>
  new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

export const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
