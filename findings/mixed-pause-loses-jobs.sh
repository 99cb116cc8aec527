#!/bin/sh
# BullMQ 5 and 6 on one queue: version 6 pauses it, version 5 resumes it, jobs that waited are gone.
#
# expected: whoever pauses and whoever resumes, every job that was added waits afterwards.
# seen: of five jobs added around the pause, the two that version 5 added stay. The three others leave the
#   list of waiting jobs: their data stays in Redis, getJob finds them, no worker ever gets them, and no call
#   reports an error. The other way round (5 pauses, 6 resumes) all five stay.
# bites: whoever upgrades from 5 to 6 with a rolling deployment, or keeps a dashboard or script on 5.
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
import * as six from "bullmq";
import * as five from "bullmq-5";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };

function check(what, seen, described) {
  const same = JSON.stringify(seen) === JSON.stringify(described);
  console.log(`${what}: ${JSON.stringify(seen)}${same ? "" : `, CHANGED, was ${JSON.stringify(described)}`}`);
  if (!same) process.exitCode = 1;
}

async function pauseAndResume(name, pausing, resuming) {
  const a = new pausing.Queue(name, { connection });
  const b = new resuming.Queue(name, { connection });
  await a.add("before", {}, { jobId: "a-before" });
  await a.pause();
  await a.add("during", {}, { jobId: "a-during" });
  await b.add("during", {}, { jobId: "b-during" });
  await b.add("during", {}, { jobId: "b-during-too" });
  await a.add("during", {}, { jobId: "a-during-too" });
  await b.resume();
  const waiting = (await b.getWaiting()).map((job) => job.id).sort();
  const others = ["a-before", "a-during", "a-during-too"];
  const states = await Promise.all(others.map((id) => b.getJobState(id)));
  const stored = (await Promise.all(others.map((id) => b.getJob(id)))).filter(Boolean).length;

  // A worker of either version finds what waits, and nothing else.
  const ran = [];
  for (const library of [pausing, resuming]) {
    const worker = new library.Worker(name, async (job) => ran.push(job.id), { connection, drainDelay: 1 });
    await new Promise((done) => worker.once("drained", done));
    await worker.close();
  }
  await a.close();
  await b.close();
  return { waiting, states, stored, ran: ran.sort() };
}

const all = ["a-before", "a-during", "a-during-too", "b-during", "b-during-too"];
const lost = await pauseAndResume("six-five", six, five);
check("6 pauses, 5 resumes: waiting", lost.waiting, ["b-during", "b-during-too"]);
check("6 pauses, 5 resumes: states of the others", lost.states, ["unknown", "unknown", "unknown"]);
check("6 pauses, 5 resumes: of these, getJob finds", lost.stored, 3);
check("6 pauses, 5 resumes: processed by workers of both versions", lost.ran, ["b-during", "b-during-too"]);
const kept = await pauseAndResume("five-six", five, six);
check("5 pauses, 6 resumes: waiting", kept.waiting, all);
check("5 pauses, 6 resumes: processed", kept.ran, all);
JS
timeout 120 node try.mjs "$port"
