#!lua flags=allow-oom
-- Stores a webhook, if it still is what it was when the change was made. A new one, and one that is disabled, reads the
-- notifications at a place of its own from then on: what comes meanwhile is not lost to it.
-- KEYS webhooks (HASH), version (STRING), place (STRING), due (ZSET), failing (ZSET), behind (SET), disabled (HASH),
--   state (HASH), queue (ZSET)
-- ARGS webhook, expected (the definition, '' when there was none), definition (JSON), enabled, why (JSON, where the mesh
--   disables it, else ''), start (position at which a new one begins), most (webhooks), changed (channel)
-- Returns 'stored', 'moved' (it is another by now) or 'full'.
--#include _webhook.lua
local was = redis.call('HGET', webhooks, webhook) or ''
if was == definition then return 'stored' end
if was ~= expected then return 'moved' end
if was == '' and redis.call('HLEN', webhooks) >= most then return 'full' end
redis.call('HSET', webhooks, webhook, definition)
if was == '' then
  redis.call('DEL', state)
  redis.call('HSET', state, 'behind', start)
  write('SADD', behind, webhook)
end
if enabled then
  if redis.call('HDEL', state, 'off', 'hold') > 0 then redis.call('HDEL', state, 'since') end
  redis.call('HDEL', disabled, webhook)
  if redis.call('ZCARD', queue) > 0 then wake(due, failing, webhook, state, now_ms()) end
else
  if redis.call('HEXISTS', state, 'behind') == 0 then
    local at, own = redis.call('GET', place) or '0-0', redis.call('HGET', state, 'from')
    if own and is_after(own, at) then at = own end
    redis.call('HSET', state, 'behind', at)
    write('SADD', behind, webhook)
  end
  redis.call('HSET', state, 'off', '1')
  if redis.call('HEXISTS', state, 'token') == 0 then -- who holds it takes it out; if he dies, whoever finds it there
    redis.call('ZREM', due, webhook)
    redis.call('ZREM', failing, webhook)
  end
  if why ~= '' then write('HSET', disabled, webhook, why) end
end
renew(version)
redis.call('PUBLISH', changed, 'webhooks')
return 'stored'
