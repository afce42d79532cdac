#!lua flags=allow-oom
-- Has a webhook read the notifications again from a position on, at a place of its own until it has caught up. It never
-- moves forward by this: what it has not been told yet comes, whatever position was named.
-- KEYS webhooks (HASH), place (STRING), behind (SET), state (HASH)
-- ARGS webhook, position (after which it reads), changed (channel)
-- Returns the position at which it reads now, the earlier one where it was behind already; nil for no such webhook.
--#include _webhook.lua
if redis.call('HEXISTS', webhooks, webhook) == 0 then return nil end
local at, own, common = redis.call('HGET', state, 'behind'), redis.call('HGET', state, 'from') or '', redis.call('GET', place) or ''
if is_after(common, own) then own = common end
if not at and is_after(own, '') and is_after(position, own) then position = own end
if at and not is_after(at, position) then return at end
redis.call('HSET', state, 'behind', position)
redis.call('HDEL', state, 'from')
write('SADD', behind, webhook)
redis.call('PUBLISH', changed, 'behind')
return position
