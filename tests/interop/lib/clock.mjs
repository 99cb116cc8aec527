// A clock the tests set, so that a scenario leaves the same times whoever plays it.

const RealDate = Date;
const realNow = Date.now;
let fixed = null;

// `new Date()` and `Date()` follow the set clock too, not only `Date.now()`.
globalThis.Date = new Proxy(RealDate, {
  construct(target, args, newTarget) {
    const shifted = args.length === 0 && fixed !== null ? [fixed] : args;
    return Reflect.construct(target, shifted, newTarget);
  },
  apply() {
    return new Date().toString();
  },
});
RealDate.now = () => fixed ?? realNow();

/** Stops the clock at `ms` (Unix time in milliseconds). Timers are not affected. */
export function setClock(ms) {
  fixed = ms;
}

/** Lets the clock follow the machine's again. */
export function resetClock() {
  fixed = null;
}
