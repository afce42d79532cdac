#!lua flags=allow-oom
-- Makes a dispatcher the one that works on a backfill, for a while, unless another one does. That saves work and is no
-- gate: backfill.lua is.
-- KEYS row (HASH, of the backfill), running (HASH, service -> id)
-- ARGS id, service, dispatcher (its name), lifetime (ms)
-- Returns the row's fields and values, nothing where another works on it, or it has ended.
--#include _time.lua
local now = now_ms()
local turn = redis.call('HMGET', row, 'state', 'by_dispatcher', 'until')
if turn[1] ~= 'running' then
  if redis.call('HGET', running, service) == id then redis.call('HDEL', running, service) end
  return {}
end
local ends = tonumber(turn[3]) or 0
if turn[2] and turn[2] ~= dispatcher and now < ends and ends < now + 60000 then return {} end
redis.call('HSET', row, 'by_dispatcher', dispatcher, 'until', digits(now + lifetime))
return redis.call('HGETALL', row)
