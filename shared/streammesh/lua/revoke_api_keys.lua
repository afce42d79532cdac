#!lua flags=allow-oom
-- Ends API keys, and remembers them, so that none of them is stored again.
-- KEYS api_keys (HASH), revoked (ZSET), last_uses (HASH), webhooks_version (STRING, another one: what a key may be told
--   counts for the webhooks of its name from this moment on)
-- ARGS now (ms), remembered (how many revoked keys), hashes (of the keys)
-- Returns how many of them there were.
--#include _version.lua
local ended = 0
for _, hash in ipairs(hashes) do
  ended = ended + redis.call('HDEL', api_keys, hash)
  redis.call('HDEL', last_uses, hash)
  redis.call('ZADD', revoked, now, hash)
end
redis.call('ZREMRANGEBYRANK', revoked, 0, -1 - remembered)
renew(webhooks_version)
return ended
