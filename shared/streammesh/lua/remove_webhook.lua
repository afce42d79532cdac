#!lua flags=allow-oom
-- Removes a webhook and all that is kept of it.
-- KEYS webhooks (HASH), version (STRING), due (ZSET), failing (ZSET), behind (SET), disabled (HASH), own (ANY, what only
--   this webhook has)
-- ARGS webhook, changed (channel)
-- Returns 1 if there was one.
--#include _webhook.lua
local found = redis.call('HDEL', webhooks, webhook)
redis.call('ZREM', due, webhook)
redis.call('ZREM', failing, webhook)
redis.call('SREM', behind, webhook)
redis.call('HDEL', disabled, webhook)
for _, key in ipairs(own) do redis.call('UNLINK', key) end
renew(version)
redis.call('PUBLISH', changed, 'webhooks')
return found
