#!lua flags=allow-oom
-- Queues a page of notifications for one webhook that is behind. It joins the others when it has read as far as they.
-- KEYS version (STRING), place (STRING), due (ZSET), failing (ZSET), behind (SET), state (HASH), queue (ZSET), entries (HASH)
-- ARGS known (version of the webhooks that were read), webhook, after (where it stands), reached (last position of the page),
--   most (deliveries queued for one webhook), most_bytes, changed (channel)
-- deliveries: ARGS delivery, position, body
-- Returns 'on', 'full', 'joined', 'stale' (webhooks or API keys have changed), 'moved' (another process was here) or 'off'
--   (it is disabled: its place stays where it is until it is enabled).
--#include _webhook.lua
if (redis.call('GET', version) or '0') ~= known then return 'stale' end
if redis.call('HGET', state, 'behind') ~= after then return 'moved' end
if redis.call('HEXISTS', state, 'off') == 1 then return 'off' end  -- nobody may let it join: all would go past it
local now = now_ms()
local full = queue_deliveries({ state = state, queue = queue, entries = entries, after = after, most = most,
  most_bytes = most_bytes, now = now }, deliveries)
if #deliveries > 0 and wake(due, failing, webhook, state, now) then redis.call('PUBLISH', changed, 'due') end
if full then
  redis.call('HSET', state, 'behind', full)
  return 'full'
end
local at = redis.call('GET', place)
if at and not is_after(at, reached) then
  redis.call('HDEL', state, 'behind')
  redis.call('HSET', state, 'from', reached)
  redis.call('SREM', behind, webhook)
  return 'joined'
end
redis.call('HSET', state, 'behind', reached)
return 'on'
