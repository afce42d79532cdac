#!lua flags=allow-oom
-- Tells a Beat which schedules are due by the server's clock and when the next one is, and notes that
-- this Beat is alive.
-- KEYS schedules (HASH), schedules_due (ZSET), alive (ZSET)
-- ARGS beat (its name), limit (most schedules to answer with)
-- Returns {now (ms), time of the first one that is not answered ('' for none), name, time it stands at,
-- entry (JSON, '' when it is missing), ...}.
--#include _time.lua
local now = now_ms()
redis.call('ZADD', alive, digits(now), beat)
redis.call('ZREMRANGEBYSCORE', alive, '-inf', digits(now - 60000))
local found = redis.call('ZRANGE', schedules_due, 0, limit, 'WITHSCORES')
local out = { digits(now), '' }
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) > now or i > 2 * limit then
    out[2] = found[i + 1]
    break
  end
  out[#out + 1] = found[i]
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGET', schedules, found[i]) or ''
end
return out
