#!lua flags=allow-oom
-- Begins to take a service away: from now on nothing new is for it. Refused while a worker of it lives.
-- What it wanted is kept aside until all that is left of it was dealt with, so that whoever goes on knows it.
-- KEYS[1] manifests (HASH)  KEYS[2] version (STRING)  KEYS[3] alive (ZSET)  KEYS[4] retiring (HASH)
-- ARGV[1] service  ARGV[2] a sign of life counts for, ms  ARGV[3] channel for changes
-- Returns {how many of its workers live, its manifest ('' where there is none, now or kept aside)}.
--#include _time.lua
local living = redis.call('ZCOUNT', KEYS[3], digits(now_ms() - tonumber(ARGV[2])), '+inf')
local manifest = redis.call('HGET', KEYS[1], ARGV[1])
if living > 0 then return { living, manifest or '' } end
if not manifest then return { 0, redis.call('HGET', KEYS[4], ARGV[1]) or '' } end
redis.call('HSET', KEYS[4], ARGV[1], manifest)
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 0 then
  local t = redis.call('TIME')
  redis.call('SET', KEYS[2], t[1] .. string.format('%06d', t[2]))
end
redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[3], 'manifests')
return { 0, manifest }
