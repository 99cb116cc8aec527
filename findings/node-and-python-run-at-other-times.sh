#!/bin/sh
# BullMQ for Node.js and for Python compute different runs of one schedule when clocks change.
#
# expected: both libraries share schedules, so the next run is the same, whichever of them runs the iteration
#   before.
# seen: (1) `0 0 * * *` in a zone whose clocks go forward at midnight (America/Santiago): Node.js makes no run
#   on that day, Python runs at 1:00. (2) `0 * * * *` when clocks go back (America/New_York): Node.js runs in
#   both hours that are called 1:00, Python leaves the second one out. (3) `30 2 * * *` in an hour that does
#   not exist (New York): both run at 3:30.
# bites: fleets with workers in both languages, and whoever moves from one to the other: a daily run is lost,
#   or an hourly one, depending on who was there before.
#
# Needs node 20, npm, python 3.11 or later with venv and pip, and redis-server (7.0.15 here).
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
npm install --ignore-scripts --no-audit --no-fund --silent bullmq@6.7.0 ioredis@5.11.1
npm ls --depth=0
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check bullmq==3.4.4 croniter==2.0.7 \
    msgpack==1.2.3 python-dateutil==4.0.0 pytz==2026.6 redis==8.1.0 semver==3.1.0 tzdata==2026.6
venv/bin/pip list
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
import { execFileSync } from "node:child_process";
import { Queue } from "bullmq";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };

function check(what, seen, described) {
  const same = JSON.stringify(seen) === JSON.stringify(described);
  console.log(`${what}: ${JSON.stringify(seen)}${same ? "" : `, CHANGED, was ${JSON.stringify(described)}`}`);
  if (!same) process.exitCode = 1;
}

// The next change of a zone's clocks, forward or back, at least two days ahead.
function change(zone, forward) {
  const format = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" });
  const offset = (time) => {
    const [, sign, hours, minutes = 0] = /GMT(?:([+-])(\d+):(\d+))?/.exec(format.format(time));
    return sign ? Number(`${sign}1`) * (60 * hours + Number(minutes)) : 0;
  };
  const hour = 3_600_000;
  for (let time = Math.ceil(Date.now() / hour + 48) * hour; ; time += hour) {
    const moved = offset(time) - offset(time - hour);
    if (forward ? moved > 0 : moved < 0) return time;
  }
}

const python = `
import asyncio, sys
from bullmq import Queue

async def main(port, pattern, zone, start):
    queue = Queue("python", {"connection": f"redis://127.0.0.1:{port}"})
    repeat = {"pattern": pattern, "tz": zone, "startDate": int(start)}
    job = await queue.upsertJobScheduler("s", repeat, "iteration", {})
    print(job.id.split(":")[-1])
    await queue.close()

asyncio.run(main(*sys.argv[1:]))
`;

// Hours from the change of the clocks to the first run after `start`, in Node.js and in Python.
async function runs(pattern, zone, start, changed) {
  const queue = new Queue("node", { connection });
  const job = await queue.upsertJobScheduler("s", { pattern, tz: zone, startDate: start }, { name: "iteration" });
  await queue.close();
  const inNode = Number(job.id.split(":").at(-1));
  const inPython = Number(execFileSync("venv/bin/python", ["-c", python, process.argv[2], pattern, zone, start]));
  return [inNode, inPython].map((time) => (time - changed) / 3_600_000);
}

const minute = 60_000;
const santiago = change("America/Santiago", true);
check("midnight that does not exist, hours after the change",
  await runs("0 0 * * *", "America/Santiago", santiago - 30 * minute, santiago), [23, 0]);
const back = change("America/New_York", false);
check("hour that comes twice, hours after the change",
  await runs("0 * * * *", "America/New_York", back - 30 * minute, back), [0, 1]);
const forward = change("America/New_York", true);
check("2:30 that does not exist, hours after the change",
  await runs("30 2 * * *", "America/New_York", forward - 30 * minute, forward), [0.5, 0.5]);
JS
timeout 120 node try.mjs "$port"
