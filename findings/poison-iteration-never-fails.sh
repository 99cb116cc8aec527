#!/bin/sh
# BullMQ: maxStalledCount does not hold for the iterations of a job scheduler.
#
# expected: an iteration that loses its worker more than maxStalledCount times fails like any other job, and
#   the next one is due at its time.
# seen: it is started again and again: it took ten workers along with maxStalledCount 1 and waits for the
#   eleventh, where a plain job fails after two. Nothing is ever failed, so no alarm goes off.
# bites: whoever schedules something that can take its process along, such as a report that outgrows the
#   memory: each worker that restarts runs into it again.
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

// How many workers in a row the job takes along, of ten at most.
async function take(name, library, put) {
  const queue = new library.Queue(name, { connection });
  const checker = await checkStalled(name, library);
  await put(queue);
  const gone = lost(name, library);
  let starts = 0;
  for (; starts < 10; starts += 1) {
    const job = await gone.getNextJob(`token-${starts}`, { block: false });
    if (!job) break;
    if (job.deferredFailure) break;
    await until("the job is back", async () => (await queue.getActiveCount()) === 0);
  }
  await gone.close(true);
  await checker.close();
  const { waiting, delayed, failed } = await queue.getJobCounts();
  await queue.close();
  return { starts, waiting, delayed, failed };
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  const plain = await take(`plain-${version}`, library, (queue) => queue.add("plain", {}));
  check(`${version}, plain job`, plain.starts, 2);
  const schedule = (queue) => queue.upsertJobScheduler("s", { every: 3_600_000 }, { name: "iteration" });
  check(`${version}, iteration`, await take(`scheduled-${version}`, library, schedule), {
    starts: 10, waiting: 1, delayed: 1, failed: 0,
  });
}
JS
timeout 120 node try.mjs "$port"
