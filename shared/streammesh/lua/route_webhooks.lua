#!lua flags=allow-oom
-- Queues a page of notifications for all webhooks that want some of it, and moves the common place. Both or nothing:
-- of several processes that read the same page one does it. A webhook that is behind is left alone; one without room
-- is behind from where its room ended.
-- KEYS version (STRING), place (STRING), due (ZSET), failing (ZSET), behind (SET)
-- ARGS known (version of the webhooks that were asked what they want), after (position before the page, '' at the very
--   beginning), reached (its last position), most (deliveries queued for one webhook), most_bytes, changed (channel)
-- wanting: KEYS state (HASH), queue (ZSET), entries (HASH) ARGS webhook
-- wanting.deliveries: ARGS delivery, position, body
-- Returns {'routed', how many webhooks were woken, how many fell behind}, {'stale'} (webhooks have changed)
--   or {'moved', place} (another process was here).
--#include _webhook.lua
if (redis.call('GET', version) or '0') ~= known then return { 'stale' } end
local at = redis.call('GET', place) or ''
if at ~= after then return { 'moved', at } end
local now, woken, fell = now_ms(), 0, 0
for _, one in ipairs(wanting) do
  local own = redis.call('HMGET', one.state, 'behind', 'from')
  local new = one.deliveries
  if own[1] then
    new = {}
  elseif own[2] then
    new = {}
    for _, delivery in ipairs(one.deliveries) do
      if is_after(delivery.position, own[2]) then new[#new + 1] = delivery end
    end
    if #new > 0 then redis.call('HDEL', one.state, 'from') end
  end
  if #new > 0 then
    local full = queue_deliveries({ state = one.state, queue = one.queue, entries = one.entries, after = after,
      most = most, most_bytes = most_bytes, now = now }, new)
    if full then
      redis.call('HSET', one.state, 'behind', full)
      write('SADD', behind, one.webhook)
      fell = fell + 1
    end
    if wake(due, failing, one.webhook, one.state, now) then woken = woken + 1 end
  end
end
redis.call('SET', place, reached)
if woken > 0 then redis.call('PUBLISH', changed, 'due') end
return { 'routed', woken, fell }
