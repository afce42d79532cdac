#!lua flags=allow-oom
-- Begins to take a service away: from now on nothing new is for it. Refused while a worker of it lives.
-- What it wanted is kept aside until all that is left of it was dealt with, so that whoever goes on knows it.
-- KEYS manifests (HASH), sealed (STRING, the service's own), version (STRING), alive (ZSET), retiring (HASH)
-- ARGS service, fresh (how long a sign of life counts, ms), changed (channel)
-- Returns {how many of its workers live, its manifest ('' where there is none, now or kept aside)}.
--#include _time.lua
local living = redis.call('ZCOUNT', alive, digits(now_ms() - fresh), '+inf')
local manifest, own = redis.call('HGET', manifests, service), redis.pcall('GET', sealed)
if manifest and type(own) == 'string' then manifest = own end
if living > 0 then return { living, manifest or '' } end
if not manifest then return { 0, redis.call('HGET', retiring, service) or '' } end
redis.call('HSET', retiring, service, manifest)
redis.call('HDEL', manifests, service)
redis.call('DEL', sealed)
if redis.call('EXISTS', version) == 0 then
  local t = redis.call('TIME')
  redis.call('SET', version, t[1] .. string.format('%06d', t[2]))
end
redis.call('INCR', version)
redis.call('PUBLISH', changed, 'manifests')
return { 0, manifest }
