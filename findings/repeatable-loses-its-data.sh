#!/bin/sh
# BullMQ 6 carries on a repeatable job that version 5 stored, but without its data.
#
# expected: after an upgrade the job repeats with the data with which it was added, as it does under version
#   5.
# seen: the iteration that version 5 had stored runs with the data, each one that version 6 makes runs with an
#   empty object. No error, no log line.
# bites: whoever upgrades from 5 to 6 with jobs that were added as queue.add(name, data, { repeat }): a report
#   for account 7 becomes a report for no account.
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

async function repeat(name, library) {
  const before = new five.Queue(name, { connection });
  await before.add("report", { account: 7 }, { repeat: { every: 500 } });
  await before.close();

  const data = [];
  const errors = [];
  const worker = new library.Worker(name, async (job) => data.push(job.data), { connection });
  worker.on("error", (error) => errors.push(error.message));
  worker.on("failed", (_, error) => errors.push(error.message));
  await until("three iterations ran", () => data.length >= 3);
  await worker.close();
  return { data: data.slice(0, 3), errors };
}

check("worker of version 5", await repeat("stays", five), {
  data: [{ account: 7 }, { account: 7 }, { account: 7 }], errors: [],
});
check("worker of version 6", await repeat("upgraded", six), {
  data: [{ account: 7 }, {}, {}], errors: [],
});
JS
timeout 120 node try.mjs "$port"
