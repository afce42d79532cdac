#!lua flags=allow-oom
-- Notes that a process is alive, by the server's clock, and forgets those that have not been seen for a while.
-- KEYS alive (ZSET), last_seen (HASH), editions (ZSET), format (HASH)
-- ARGS name (of the process), forget_after (ms), role (its role or service), mine (its format of keys and scripts),
--   edition (digest of what a worker runs, else '')
-- Returns 'same' | 'older' (the mesh is to be migrated) | 'newer' (the process should end); see read_format.lua.
--#include _time.lua
--#include _format.lua
local now = now_ms()
redis.call('ZADD', alive, digits(now), name)
redis.call('HSET', last_seen, role, digits(now))
if edition ~= '' then
  redis.call('ZADD', editions, digits(now), edition)
  redis.call('ZREMRANGEBYSCORE', editions, '-inf', digits(now - 86400000))
end
redis.call('ZREMRANGEBYSCORE', alive, '-inf', digits(now - forget_after))
return standing()
