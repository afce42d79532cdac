#!lua flags=allow-oom
-- Tells a Beat which schedules are due by the server's clock and when the next one is, and notes that
-- this Beat is alive.
-- KEYS[1] schedules (HASH)  KEYS[2] schedules_due (ZSET)  KEYS[3] alive (ZSET)
-- ARGV[1] name of the Beat  ARGV[2] most schedules to answer with
-- Returns {now (ms), time of the first one that is not answered ('' for none), name, time it stands at,
-- entry (JSON, '' when it is missing), ...}.
--#include _time.lua
local now, limit = now_ms(), tonumber(ARGV[2])
redis.call('ZADD', KEYS[3], digits(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', digits(now - 60000))
local found = redis.call('ZRANGE', KEYS[2], 0, limit, 'WITHSCORES')
local out = { digits(now), '' }
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) > now or i > 2 * limit then
    out[2] = found[i + 1]
    break
  end
  out[#out + 1] = found[i]
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGET', KEYS[1], found[i]) or ''
end
return out
