// Waiting with a time limit. Every wait in the scenarios has one.

/** The time limit for an update to a subscriber. Loopback needs a few milliseconds. */
export const LIVE_LIMIT = 2_000;

/** The time limit for other small tasks: loading a map, an answer to one message. */
export const SMALL_LIMIT = 10_000;

/** Resolves after `ms` milliseconds. Only for checks that something does not happen. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Settles like `promise`, or rejects after `limit` milliseconds with `what` in the error. The promise
 * itself goes on; the caller's cleanup ends the work behind it.
 */
export async function within(limit, what, promise) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `predicate` holds; rejects after `limit` milliseconds. */
export async function until(limit, what, predicate) {
  const deadline = Date.now() + limit;
  while (!predicate()) {
    if (Date.now() > deadline) throw new Error(`no ${what} within ${limit} ms`);
    await pause(20);
  }
}

/**
 * Resolves with a raw CoValue once `predicate` holds for it. Uses only the CoValue's subscription.
 * The error at the time limit shows the CoValue's last state.
 */
export async function untilValue(coValue, what, predicate, limit = LIVE_LIMIT) {
  let unsubscribe = () => {};
  let latest = coValue;
  const reached = new Promise((resolve, reject) => {
    unsubscribe = coValue.subscribe((update) => {
      latest = update;
      try {
        if (predicate(update)) resolve(update);
      } catch (error) {
        reject(error);
      }
    });
  });
  try {
    return await within(limit, what, reached);
  } catch (error) {
    error.message += `; ${coValue.id} holds ${abridged(latest)}`;
    throw error;
  } finally {
    unsubscribe();
  }
}

function abridged(coValue) {
  const text = JSON.stringify(coValue.toJSON());
  return text.length > 500 ? `${text.slice(0, 500)}… (${text.length} characters)` : text;
}
