#!/bin/sh
# BullMQ: an error class of one's own that extends UnrecoverableError stops the retries, but not from a
# sandboxed processor.
#
# expected: a processor means the same in a file of its own (sandboxed) as in the worker's process: what
#   extends UnrecoverableError fails the job at its first attempt.
# seen: in the process, and for UnrecoverableError itself, one attempt. Thrown from a sandboxed processor, as
#   a child process or a thread, the subclass is an ordinary error: all three attempts are made.
# bites: whoever names errors (a declined card, a blocked account) this way and moves the processor into a
#   file: what must not be repeated is repeated.
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
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
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

async function attempts(name, library, packageName, thread) {
  const file = `${process.cwd()}/${packageName}.cjs`;
  writeFileSync(file, `
    const { UnrecoverableError } = require("${packageName}");
    class CardDeclined extends UnrecoverableError {}
    module.exports = async (job) => {
      if (job.data.plain) throw new UnrecoverableError("declined");
      throw new CardDeclined("declined");
    };
  `);
  const processor = thread === undefined ? createRequire(import.meta.url)(file) : file;
  const worker = new library.Worker(name, processor, { connection, useWorkerThreads: thread });
  const queue = new library.Queue(name, { connection });
  const made = [];
  for (const plain of [true, false]) {
    const job = await queue.add("charge", { plain }, { attempts: 3 });
    await until("the job failed", () => job.isFailed());
    made.push((await queue.getJob(job.id)).attemptsMade);
  }
  await worker.close();
  await queue.close();
  return made;
}

for (const [version, library, packageName] of [["5.81.5", five, "bullmq-5"], ["6.7.0", six, "bullmq"]]) {
  const what = "attempts with UnrecoverableError, with a subclass";
  check(`${version}, in the process: ${what}`, await attempts(`in-${version}`, library, packageName), [1, 1]);
  check(`${version}, child process: ${what}`, await attempts(`child-${version}`, library, packageName, false), [1, 3]);
  check(`${version}, thread: ${what}`, await attempts(`thread-${version}`, library, packageName, true), [1, 3]);
}
JS
timeout 120 node try.mjs "$port"
