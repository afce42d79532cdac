#!lua flags=allow-oom
-- Notes why a worker of a service was refused, or that one was let in, which ends what was noted of the service.
-- KEYS refusals (HASH)
-- ARGS service, reason ('' : it was let in), most (services that are noted; beyond them all begins anew),
--   kept (how long after the last one, ms)
-- Returns 1.
--#include _time.lua
--#include _write.lua
if reason == '' then
  redis.pcall('HDEL', refusals, service)
  return 1
end
local size = redis.pcall('HLEN', refusals)
if type(size) == 'number' and size >= most and redis.call('HEXISTS', refusals, service) == 0 then
  redis.call('DEL', refusals) -- who is refused is started again, and noted again
end
write('HSET', refusals, service, digits(now_ms()) .. ' ' .. reason)
redis.call('PEXPIRE', refusals, kept)
return 1
