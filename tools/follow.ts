// Loaded into a program that `npm start` runs: when `npm start` is gone, however it ended, so is the program.
process.once("disconnect", () => process.kill(process.pid, "SIGTERM"));
// The connection alone is no reason to stay.
process.channel?.unref();
