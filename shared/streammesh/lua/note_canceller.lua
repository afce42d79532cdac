#!lua flags=allow-oom
-- Notes that an event which cancels was published in another shard: tasks of this one that were published before it and
-- carry its value are to be cancelled, as if it had been handed over here. May be repeated.
-- KEYS canceller (HASH, which event cancels), cancelling (ZSET, of such work)
-- ARGS age (ms since it was published), by (what ends a task, JSON), work, changed (channel)
-- Returns 1.
--#include _time.lua
--#include _cancels.lua
local now = now_ms()
mark_cancels({ is_canceller = true, canceller = canceller, cancelling = cancelling, published = moment_ago(age, now), by = by,
  work = work, changed = changed, outboxes = {} }, digits(now))
return 1
