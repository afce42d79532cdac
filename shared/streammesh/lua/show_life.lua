#!lua flags=allow-oom
-- Notes that a process is alive, by the server's clock, and forgets those that have not been seen for a while.
-- KEYS alive (ZSET), last_seen (HASH)
-- ARGS name (of the process), forget_after (ms), role (its role or service)
-- Returns how many were forgotten.
--#include _time.lua
local now = now_ms()
redis.call('ZADD', alive, digits(now), name)
redis.call('HSET', last_seen, role, digits(now))
return redis.call('ZREMRANGEBYSCORE', alive, '-inf', digits(now - forget_after))
