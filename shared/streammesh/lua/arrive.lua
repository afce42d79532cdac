#!lua flags=allow-oom
-- Notes that an event came that may be waited for, and answers who waits for it now. Whoever begins to wait after this
-- finds it here, so that no moment lies between.
-- The first time an event of this shard comes, the other shards are told of it: runs of theirs may wait for it.
-- KEYS arrived (ZSET), waiters (ZSET), event_row (HASH), outboxes (STREAM each, of the other shards; none for an event of another one)
-- ARGS source, value (the event, JSON), lookback (ms), most (events that are kept, and tasks that are answered), service,
--   digest (of what stands at the paths), age (ms since it was published in another shard, '' in this one), changed (channel)
-- Returns {score of the event, waiters...}; '' for what stood there and was no waiter: it is removed.
--#include _time.lua
--#include _entry.lua
--#include _outbox.lua
local now, score = now_ms(), nil
if age ~= '' then
  score = moment_ago(age, now)
else
  score = published_at(redis.call('HGET', event_row, 'at:' .. source)) or digits(now * 1000)
end
if write('ZADD', arrived, 'NX', score, value) == 1 then
  for _, outbox in ipairs(outboxes) do lay_out(outbox, changed, 's', service, 'd', digest, 'v', value, 'at', score) end
end
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
