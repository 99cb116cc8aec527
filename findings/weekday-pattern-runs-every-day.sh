#!/bin/sh
# BullMQ 5 and 6 read one cron pattern differently, because of cron-parser 4 and 5.
#
# expected: an upgrade does not move schedules: a pattern whose day of the month is written out, 1-31 or */1,
#   runs on the same days.
# seen: version 5 takes the full range for no restriction: `0 9 1-31 * 1` runs on Mondays. Version 6 takes it
#   for a condition of its own, and one of the two suffices: it runs every day. With `*` in place of the range
#   they agree.
# bites: whoever has patterns from a generator that writes ranges out and upgrades; in a mixed fleet the day
#   depends on which worker ran the iteration before.
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

// A Tuesday at noon, about a month ahead.
const from = new Date(Date.now() + 30 * 86_400_000);
from.setUTCHours(12, 0, 0, 0);
while (from.getUTCDay() !== 2) from.setUTCDate(from.getUTCDate() + 1);

// Days from then to the first run.
async function days(library, pattern) {
  const queue = new library.Queue(`days-${library === six ? 6 : 5}`, { connection });
  const job = await queue.upsertJobScheduler(pattern, { pattern, tz: "UTC", startDate: from }, { name: "iteration" });
  await queue.close();
  return Math.ceil((job.timestamp + job.delay - from) / 86_400_000);
}

const toMonday = 6;
for (const [pattern, inFive, inSix] of [
  ["0 9 1-31 * 1", toMonday, 1],
  ["0 9 */1 * 1", toMonday, 1],
  ["0 9 * * 1", toMonday, toMonday],
]) {
  const seen = [await days(five, pattern), await days(six, pattern)];
  check(`${pattern}: days to the first run in 5.81.5 and 6.7.0`, seen, [inFive, inSix]);
}
JS
timeout 120 node try.mjs "$port"
