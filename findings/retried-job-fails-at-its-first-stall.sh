#!/bin/sh
# BullMQ: a job that failed because it stalled too often, and is retried by hand, may not stall at all any
# more.
#
# expected: a retry by hand gives the job what a new one has: with maxStalledCount 1 it survives one lost
#   worker. At the latest, resetAttemptsMade and resetAttemptsStarted do that.
# seen: the count of stalls is kept, with or without these options, so the retried job fails at its first lost
#   worker, where a new job runs.
# bites: whoever retries failed jobs after an outage and then deploys: the restart of the workers fails them
#   all again.
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

// A worker that goes away with its job: it fetches, and never renews the lock.
const lost = (name, library) => new library.Worker(name, null, { connection, lockDuration: 200 });

// Looks for stalled jobs, and processes none.
async function checkStalled(name, library) {
  const worker = new library.Worker(name, null, { connection, stalledInterval: 100, maxStalledCount: 1 });
  await worker.startStalledCheckTimer();
  return worker;
}

async function stall(name, library, job, times) {
  const gone = lost(name, library);
  for (let time = 0; time < times; time += 1) {
    await gone.getNextJob(`token-${time}`);
    await until("the job is back", async () => (await job.getState()) === "waiting");
  }
  await gone.close(true);
  const worker = new library.Worker(name, async () => {}, { connection, skipStalledCheck: true });
  await until("the job ended", async () => ["completed", "failed"].includes(await job.getState()));
  await worker.close();
  return job.getState();
}

async function retry(name, library, options) {
  const queue = new library.Queue(name, { connection });
  const checker = await checkStalled(name, library);
  const fresh = await stall(name, library, await queue.add("new", {}), 1);
  const job = await queue.add("retried", {});
  const twice = await stall(name, library, job, 2);
  await (await queue.getJob(job.id)).retry("failed", options);
  const retried = await stall(name, library, job, 1);
  const { failedReason } = await queue.getJob(job.id);
  await checker.close();
  await queue.close();
  return { fresh, twice, retried, failedReason };
}

const described = {
  fresh: "completed", twice: "failed", retried: "failed", failedReason: "job stalled more than allowable limit",
};
for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  check(`${version}, retry`, await retry(`retry-${version}`, library, {}), described);
  const reset = { resetAttemptsMade: true, resetAttemptsStarted: true };
  check(`${version}, retry with counts reset`, await retry(`reset-${version}`, library, reset), described);
}
JS
timeout 120 node try.mjs "$port"
