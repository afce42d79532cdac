#!lua flags=allow-oom
-- Notes that an event came that may be waited for, and answers who waits for it now. Whoever begins to wait after this
-- finds it here, so that no moment lies between.
-- KEYS arrived (ZSET), waiters (ZSET), event_row (HASH)
-- ARGS source, value (the event, JSON), lookback (ms), most (events that are kept, and tasks that are answered)
-- Returns {score of the event, waiters...}; '' for what stood there and was no waiter: it is removed.
--#include _time.lua
--#include _entry.lua
local score = published_at(redis.call('HGET', event_row, 'at:' .. source)) or digits(now_ms() * 1000)
write('ZADD', arrived, 'NX', score, value)
redis.call('ZREMRANGEBYRANK', arrived, 0, -most - 1)
redis.call('PEXPIRE', arrived, digits(lookback))
score = redis.call('ZSCORE', arrived, value) or score
local waiting = write('ZRANGEBYSCORE', waiters, '-inf', '(' .. score, 'LIMIT', 0, most)
for i, one in ipairs(waiting) do
  if not string.match(one, '^[^\t]+\t[^\t]+\t%d\t') then
    redis.call('ZREM', waiters, one)
    waiting[i] = ''
  end
end
return { score, unpack(waiting) }
