#!/bin/sh
# BullMQ on a Redis at maxmemory: running jobs lose their locks, and run once more beside themselves.
#
# expected: a server that is full refuses new jobs. Those that run keep their locks, since renewing one needs
#   no memory.
# seen: the lock is renewed with a script that the server refuses (OOM) for all that it sets no more than an
#   existing key, while PEXPIRE on the same lock is accepted. The lock expires, the handler is not stopped,
#   and once memory is free the job counts as stalled: a second worker starts it while the first still runs.
# bites: everybody whose server is full for longer than lockDuration (30 s unless set): each job that runs is
#   done twice.
#
# Needs node 20, npm and redis-server (7.0.15 here).
# The exit status is 0 while all is as described here.
set -eu

dir=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM
cd "$dir"

echo '{"private": true, "type": "module"}' >package.json
npm install --ignore-scripts --no-audit --no-fund --silent bullmq@6.7.0 bullmq-5@npm:bullmq@5.81.5 ioredis@5.11.1
npm ls --depth=0
node --version
redis-server --version

port=$(node -e '
    const probe = require("net").createServer();
    probe.listen(0, "127.0.0.1", () => {
        console.log(probe.address().port);
        probe.close();
    });
')
redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save "" >redis.log &
server=$!
until redis-cli -p "$port" ping >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done

cat >try.mjs <<'JS'
import { setTimeout as sleep } from "node:timers/promises";
import Redis from "ioredis";
import * as six from "bullmq";
import * as five from "bullmq-5";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };

function check(what, seen, described) {
  const same = JSON.stringify(seen) === JSON.stringify(described);
  console.log(`${what}: ${JSON.stringify(seen)}${same ? "" : `, CHANGED, was ${JSON.stringify(described)}`}`);
  if (!same) process.exitCode = 1;
}

async function until(what, condition) {
  for (const end = Date.now() + 20_000; !(await condition()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
  }
}

const redis = new Redis(connection);

async function fill(name, library) {
  const errors = new Set();
  let running = 0;
  let atOnce = 0;
  let release;
  const released = new Promise((done) => (release = done));
  const open = () => {
    const worker = new library.Worker(name, async () => {
      running += 1;
      atOnce = Math.max(atOnce, running);
      await released;
      running -= 1;
    }, { connection, lockDuration: 1000, stalledInterval: 300, maxStalledCount: 1 });
    worker.on("error", (error) => errors.add(error.message));
    return worker;
  };
  const workers = [open(), open()];
  const queue = new library.Queue(name, { connection });
  const job = await queue.add("charge", {});
  await until("the job runs", () => running === 1);
  const lock = `bull:${name}:${job.id}:lock`;

  await redis.config("SET", "maxmemory", "1mb"); // less than an empty server needs
  const extended = await redis.pexpire(lock, 1000);
  await until("the lock is gone", async () => (await redis.exists(lock)) === 0);
  const stillRuns = running;
  await redis.config("SET", "maxmemory", "0");

  await until("the job runs again", () => atOnce > 1);
  release();
  await Promise.all(workers.map((worker) => worker.close()));
  await queue.close();
  return { extended, stillRuns, atOnce, refused: [...errors].some((message) => message.includes("OOM")) };
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  check(version, await fill(`full-${version}`, library), { extended: 1, stillRuns: 1, atOnce: 2, refused: true });
}
process.exit();
JS
timeout 120 node try.mjs "$port"
