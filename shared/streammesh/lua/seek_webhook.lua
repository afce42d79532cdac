#!lua flags=allow-oom
-- Has a webhook read the notifications again from a position on, at a place of its own until it has caught up.
-- KEYS webhooks (HASH), behind (SET), state (HASH)
-- ARGS webhook, position (after which it reads), changed (channel)
-- Returns the position at which it reads now, the earlier one where it was behind already; nil for no such webhook.
--#include _webhook.lua
if redis.call('HEXISTS', webhooks, webhook) == 0 then return nil end
local at = redis.call('HGET', state, 'behind')
if at and not is_after(at, position) then return at end
redis.call('HSET', state, 'behind', position)
redis.call('HDEL', state, 'from')
write('SADD', behind, webhook)
redis.call('PUBLISH', changed, 'behind')
return position
