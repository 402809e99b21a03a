// Waiting with a limit. Nothing in the scenarios waits for anything without one.

/** How long an update may take to reach a subscriber. Loopback needs a few milliseconds. */
export const LIVE_LIMIT = 2_000;

/** How long anything else that is small may take: loading a map, an answer to one message. */
export const SMALL_LIMIT = 10_000;

/** Resolves after `ms` milliseconds. Only for giving something unwanted the time to happen. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Settles as `promise` does, or rejects after `limit` milliseconds saying what was waited for.
 * The promise itself goes on; the caller's cleanup ends whatever stands behind it.
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

/** Resolves when `predicate` holds, which is tried often; rejects after `limit` milliseconds. */
export async function until(limit, what, predicate) {
  const deadline = Date.now() + limit;
  while (!predicate()) {
    if (Date.now() > deadline) throw new Error(`no ${what} within ${limit} ms`);
    await pause(20);
  }
}

/**
 * Resolves with a raw CoValue as soon as `predicate` holds for it, told by its subscription
 * alone. On expiry the error shows what the CoValue held in the end.
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
