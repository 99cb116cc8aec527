#!/bin/sh
# BullMQ on ioredis: a connection that breaks between a request and its answer makes one add two jobs.
#
# expected: an add whose answer is lost either fails, so that the caller can decide, or adds one job.
# seen: ioredis sends the request again on the new connection, and the script adds a second job under the next
#   number. The caller gets one job and no error; the other one runs as well. A bulk of two becomes four. With
#   a jobId of the caller there is one job.
# bites: whoever adds jobs without a jobId of their own while Redis fails over, restarts, or a load balancer
#   cuts connections: mails and payments twice.
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
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as six from "bullmq";
import * as five from "bullmq-5";

function check(what, seen, described) {
  const same = JSON.stringify(seen) === JSON.stringify(described);
  console.log(`${what}: ${JSON.stringify(seen)}${same ? "" : `, CHANGED, was ${JSON.stringify(described)}`}`);
  if (!same) process.exitCode = 1;
}

// Stands between client and server. Once armed, it lets the next request pass and cuts the line when the answer comes.
let armed = false;
const proxy = net.createServer((client) => {
  const server = net.connect(Number(process.argv[2]), "127.0.0.1");
  client.pipe(server);
  server.on("data", (answer) => {
    if (!armed) return client.write(answer);
    armed = false;
    client.destroy();
    server.destroy();
  });
  for (const [one, other] of [[client, server], [server, client]]) {
    one.on("error", () => {});
    one.on("close", () => other.destroy());
  }
});
await new Promise((ready) => proxy.listen(0, "127.0.0.1", ready));
const connection = { host: "127.0.0.1", port: proxy.address().port };

async function addOnce(name, library, add) {
  const queue = new library.Queue(name, { connection });
  queue.on("error", () => {});
  await queue.waitUntilReady();
  await sleep(200); // what it asks when it connects has been answered
  armed = true;
  const told = [await add(queue)].flat().length;
  const waiting = await queue.getWaitingCount();
  await queue.close();
  return { cut: !armed, told, waiting };
}

for (const [version, library] of [["5.81.5", five], ["6.7.0", six]]) {
  check(`${version}, add`, await addOnce(`one-${version}`, library, (queue) => queue.add("pay", {})), {
    cut: true, told: 1, waiting: 2,
  });
  const bulk = [{ name: "pay", data: {} }, { name: "pay", data: {} }];
  check(`${version}, addBulk of two`, await addOnce(`bulk-${version}`, library, (queue) => queue.addBulk(bulk)), {
    cut: true, told: 2, waiting: 4,
  });
  check(`${version}, add with a jobId`,
    await addOnce(`id-${version}`, library, (queue) => queue.add("pay", {}, { jobId: "order-7" })), {
    cut: true, told: 1, waiting: 1,
  });
}
process.exit();
JS
timeout 120 node try.mjs "$port"
