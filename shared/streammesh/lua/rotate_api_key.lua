#!lua flags=allow-oom
-- Gives a key's name another key, and the old ones a time to end, if they still are what was read.
-- KEYS api_keys (HASH), revoked (ZSET), webhooks_version (STRING, another one: what a key may be told
--   counts for the webhooks of its name from this moment on)
-- ARGS hash (of the new key), record (its record, JSON), now (ms), remembered (how many revoked keys)
-- old_keys: ARGS hash, read (its record as read), ending (its record with the time at which it ends, '' to end it now)
-- Returns 1 if it was done, 0 if a record had changed.
--#include _version.lua
for _, old in ipairs(old_keys) do
  if redis.call('HGET', api_keys, old.hash) ~= old.read then return 0 end
end
for _, old in ipairs(old_keys) do
  if old.ending == '' then
    redis.call('HDEL', api_keys, old.hash)
  else
    redis.call('HSET', api_keys, old.hash, old.ending)
  end
  redis.call('ZADD', revoked, now, old.hash)
end
redis.call('ZREMRANGEBYRANK', revoked, 0, -1 - remembered)
redis.call('HSET', api_keys, hash, record)
renew(webhooks_version)
return 1
