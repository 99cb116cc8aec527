#!/bin/sh
# BullMQ: queue.drain() with a job in front of a waiting iteration ends the schedule, and runs a job without
# its data.
#
# expected: drain deletes the jobs that wait and keeps those of job schedulers, so every schedule goes on.
# seen: with one job in front of the waiting iteration, drain takes the iteration off the list and deletes the
#   other job, but leaves the id of that one waiting: a worker runs its handler with a job whose name is
#   undefined and whose data is empty. The scheduler is still listed, and makes no job any more until somebody
#   upserts it. With the job behind the iteration, the iteration stays and the schedule goes on.
# bites: whoever empties a backlog, in code or through a dashboard, while a schedule is due.
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

async function drain(name, library, jobFirst) {
  const queue = new library.Queue(name, { connection });
  const add = () => queue.add("backlog", { order: 7 });
  if (jobFirst) await add();
  await queue.upsertJobScheduler("hourly", { every: 3_600_000 }, { name: "iteration" });
  if (!jobFirst) await add();
  await queue.drain();
  const waiting = await queue.getWaitingCount();

  // Starting an iteration is what makes the next one.
  const ran = [];
  const worker = new library.Worker(name, async (job) => ran.push([typeof job.name, job.data]), { connection });
  await until("what was kept ran", async () => (await queue.getCompletedCount()) === 1);
  await worker.close();
  const pending = await queue.getDelayedCount();
  const schedulers = await queue.getJobSchedulersCount();
  await queue.close();
  return { waiting, ran, pending, schedulers };
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  check(`${version}, a job in front of the iteration`, await drain(`front-${version}`, library, true), {
    waiting: 1, ran: [["undefined", {}]], pending: 0, schedulers: 1,
  });
  check(`${version}, the job behind it`, await drain(`behind-${version}`, library, false), {
    waiting: 1, ran: [["string", {}]], pending: 1, schedulers: 1,
  });
}
JS
timeout 120 node try.mjs "$port"
