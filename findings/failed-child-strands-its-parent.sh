#!/bin/sh
# BullMQ: a flow whose child already exists and has failed leaves its parent waiting, failParentOnFailure or
# not.
#
# expected: a child that exists counts with the state that it has: completed lets the parent run, failed fails
#   a parent whose child asks for that.
# seen: a completed child is counted. A failed one is not: the flow is added without an error and the parent
#   stays in waiting-children, with the child listed as unprocessed, although nothing will process it.
# bites: whoever gives children ids of their own, such as order-7, and adds the flow again after a failure.
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

async function flow(name, library, childFails) {
  const queue = new library.Queue(name, { connection });
  const flows = new library.FlowProducer({ connection });
  const worker = new library.Worker(name, async (job) => {
    if (job.data.fails) throw new Error("no");
  }, { connection });
  const data = { fails: childFails };
  const child = await queue.add("child", data, { jobId: "order-7" });
  await until("the child ended", async () => ["completed", "failed"].includes(await child.getState()));

  const { job: parent } = await flows.add({
    name: "parent", queueName: name,
    children: [{ name: "child", queueName: name, data, opts: { jobId: "order-7", failParentOnFailure: true } }],
  });
  // Jobs run in turn: when this one is done, the worker had every occasion to run the parent.
  const later = await queue.add("later", {});
  await until("a later job ran", () => later.isCompleted());
  await until("the worker is idle", async () => (await queue.getActiveCount()) === 0);
  const seen = [await child.getState(), await parent.getState(), (await parent.getDependenciesCount()).unprocessed];
  await worker.close();
  await flows.close();
  await queue.close();
  return seen;
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  const what = `${version}: child, parent, unprocessed`;
  check(what, await flow(`good-${version}`, library, false), ["completed", "completed", 0]);
  check(what, await flow(`bad-${version}`, library, true), ["failed", "waiting-children", 1]);
}
JS
timeout 120 node try.mjs "$port"
