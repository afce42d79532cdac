#!lua flags=allow-oom
-- Notes that a process is alive, by the server's clock, and forgets those that have not been seen for a while.
-- KEYS[1] alive (ZSET)  KEYS[2] last seen (HASH)
-- ARGV[1] name of the process  ARGV[2] forgotten after, ms  ARGV[3] its role or service
-- Returns how many were forgotten.
--#include _time.lua
local now = now_ms()
redis.call('ZADD', KEYS[1], digits(now), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[3], digits(now))
return redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', digits(now - tonumber(ARGV[2])))
