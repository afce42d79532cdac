#!lua flags=allow-oom
-- Notes that a process is alive, by the server's clock, and forgets those that have not been seen for a while.
-- KEYS alive (ZSET), last_seen (HASH), editions (ZSET)
-- ARGS name (of the process), forget_after (ms), role (its role or service), edition (digest of what a worker runs, else '')
-- Returns how many were forgotten.
--#include _time.lua
local now = now_ms()
redis.call('ZADD', alive, digits(now), name)
redis.call('HSET', last_seen, role, digits(now))
if edition ~= '' then
  redis.call('ZADD', editions, digits(now), edition)
  redis.call('ZREMRANGEBYSCORE', editions, '-inf', digits(now - 86400000))
end
return redis.call('ZREMRANGEBYSCORE', alive, '-inf', digits(now - forget_after))
