#!lua flags=allow-oom
-- Queues some deliveries for one webhook, whatever it was told before: a test, or a replay by id. Those that wait already
-- are due now.
-- KEYS webhooks (HASH), due (ZSET), failing (ZSET), state (HASH), queue (ZSET), entries (HASH)
-- ARGS webhook, most (deliveries queued for one webhook), most_bytes, changed (channel)
-- deliveries: ARGS delivery, position, body
-- Returns 1 if all are queued, 0 when there was no room for some, nil for no such webhook.
--#include _webhook.lua
if redis.call('HEXISTS', webhooks, webhook) == 0 then return nil end
local now = now_ms()
local full = queue_deliveries({ state = state, queue = queue, entries = entries, after = '', most = most,
  most_bytes = most_bytes, now = now, again = true }, deliveries)
redis.call('HDEL', state, 'hold')
wake(due, failing, webhook, state, now)
redis.call('PUBLISH', changed, 'due')
return full and 0 or 1
