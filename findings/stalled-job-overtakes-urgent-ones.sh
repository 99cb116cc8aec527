#!/bin/sh
# BullMQ: a job of low priority that stalls runs next, before urgent jobs.
#
# expected: a stalled job goes back to where its priority puts it.
# seen: it goes to the list of jobs without a priority, which is served first. A job of priority 1 waits
#   behind one of priority 100, and getJobCounts shows the stalled one as waiting instead of prioritized.
# bites: whoever uses priorities to keep bulk work out of the way: after a crash of the workers, all the bulk
#   work that ran comes first.
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

async function stall(name, library) {
  const queue = new library.Queue(name, { connection });
  const bulk = await queue.add("bulk", {}, { priority: 100 });
  const gone = lost(name, library);
  await gone.getNextJob("token");
  await gone.close(true);
  await queue.add("urgent", {}, { priority: 1 });
  const checker = await checkStalled(name, library);
  await until("the job is back", async () => (await queue.getActiveCount()) === 0);
  await checker.close();
  const state = await bulk.getState();

  const order = [];
  const worker = new library.Worker(name, async (job) => order.push(job.name), { connection });
  await until("both ran", () => order.length === 2);
  await worker.close();
  await queue.close();
  return { state, order };
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  check(version, await stall(`priority-${version}`, library), { state: "waiting", order: ["bulk", "urgent"] });
}
JS
timeout 120 node try.mjs "$port"
